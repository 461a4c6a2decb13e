class DemoError(Exception): ...


def run(path, *, keep, out):
    return {}
