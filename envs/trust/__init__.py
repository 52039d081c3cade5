"""When is a dream out of its depth?"""
