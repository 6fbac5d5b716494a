"""Who answers: the hosted forced-choice task. It is built on the study folder that ``vimi build`` writes."""
