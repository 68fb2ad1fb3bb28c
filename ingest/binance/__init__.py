"""The exchange's edge: market streams, REST history, and the judgement of their health."""
