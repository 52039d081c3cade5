"""How good are policy and dream, by MuJoCo?"""
