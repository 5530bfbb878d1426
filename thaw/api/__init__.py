"""The Python API: ``thaw.fit``, ``thaw.load``, an estimator of scikit-learn, and what notebooks show."""
