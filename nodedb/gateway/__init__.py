"""From a statement's text to a plan, through the plan cache."""
