"""A synthetic cohort with known truth: invented people, real-looking FHIR, labelled faults, and the answers.

Nothing here describes a real person. The pipeline reads the resources and never the truth; tests compare the two.
"""

from __future__ import annotations

from crps_outcomes.synthetic.cohort import Cohort, generate
from crps_outcomes.synthetic.options import Options
from crps_outcomes.synthetic.population import PopulationTruth, population_truth
from crps_outcomes.synthetic.writer import write_ndjson

__all__ = ["Cohort", "Options", "PopulationTruth", "generate", "population_truth", "write_ndjson"]
