def tables(result):
    return []


def summary(result):
    return []


def draw(result):
    return None
