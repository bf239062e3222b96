draw = summary = tables = None
