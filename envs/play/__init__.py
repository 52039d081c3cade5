"""Steer a dream in a browser, beside MuJoCo: ``procosm play``.

command   the verb              server    the page, the seats, who may connect      protocol  messages and their bounds
session   one visitor's thread  pair      dream | MuJoCo, step by step              history   what can be gone back to
policy    a policy steering     policies/ one for each world model that ships       record    mp4 and episode
page/     HTML, CSS, JavaScript
"""
