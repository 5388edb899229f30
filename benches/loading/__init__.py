"""The parts of `benches/load.py`: the archives it loads, what it starts, and what it watches."""
