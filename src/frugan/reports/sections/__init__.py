"""The sections of a report, a module each, with a function from the context to what was found."""
