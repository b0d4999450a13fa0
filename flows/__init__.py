"""The order of a run: `tune` is the whole of it on one page, beside it one file per stage.

The command line is here too. Everything calls tasks/, which have the effects; no module here trains,
stores or draws by itself.
"""
