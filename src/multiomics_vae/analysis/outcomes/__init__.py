"""Judging predictions of what happens to patients: calibration, intervals, baselines, folds."""
