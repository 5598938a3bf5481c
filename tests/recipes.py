"""The scripts in recipes/, as modules: they are no package, and find each other beside themselves."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))

import demo_baselines
import demo_models
import demo_saes
import demo_texts
import draw_steering
import steering_material

__all__ = ["demo_baselines", "demo_models", "demo_saes", "demo_texts", "draw_steering", "steering_material"]
