"""Labels of each image: classes, several classes at once, or measured numbers, as one float32 row per image.

A specification says where labels come from: "none"; "auto" (in the array file, dataset.json, labels.csv, metadata.csv,
metadata.jsonl or sub-folders, whichever is found first); "folders"; or the path of a .csv, .tsv, .json or .jsonl file, after
which `:column,column` may pick columns, and `:column=number` or `:column=class` says how one is read. A path is looked for
on disk, then beside the images, at any depth.
"""
