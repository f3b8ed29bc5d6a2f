def document(parts, config):
    return {}
