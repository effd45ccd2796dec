"""The verbs of CT, one file each; ``tomocast.cli`` puts them on the command line."""
