"""A simulated home: a furnished room in MuJoCo, a person, a camera, and imperfect sensors."""
