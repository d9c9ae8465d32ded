"""The suite's own pytest plugins are the modules in ``tests/plugins``, which is on ``pythonpath``."""

pytest_plugins = [
    "compile_times",
    "hypothesis_profiles",
    "module_budget",
    "paper_results",
    "selected_tests",
    "pytester",
]
