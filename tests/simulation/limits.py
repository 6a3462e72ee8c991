"""Where the promise cannot hold, by name. Each is told to the user in the documentation; a run counts those it meets.

A limit excuses one machine from what it names, never a whole run, and never the rule that what exists is known.
"""

from __future__ import annotations

CLOUD_KEEPS_IT = "the cloud accepted a delete and did not carry it out within its declared lateness"
NO_LAYER_LEFT = (
    "no timer was armed, the agent was dead or cut off, and the guard was away or its calls failed at the deadline"
)
SWITCHED_OFF = "switched off from inside on a cloud whose timer does not see that, and nobody's guard was there"
FORGOTTEN = "the guard came back after the cloud had forgotten how the machine ended"
UNREADABLE = "the console could not be read while, and for a time after, its machine ended"

ALL = (CLOUD_KEEPS_IT, NO_LAYER_LEFT, SWITCHED_OFF, FORGOTTEN, UNREADABLE)
