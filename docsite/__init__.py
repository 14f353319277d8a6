"""Documentation site: pages made from the code, figures, hooks of mkdocs, and the checks that tests share."""
