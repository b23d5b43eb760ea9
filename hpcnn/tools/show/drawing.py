def svg_file(*a):
    return ""
