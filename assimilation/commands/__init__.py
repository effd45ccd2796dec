"""The verbs of data assimilation, one file each; ``tomocast.cli`` puts them on the command line."""
