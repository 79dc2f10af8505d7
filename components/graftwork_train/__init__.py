"""graftwork_train: what runs in the containers. It imports torch and Ray, never kfp."""

import os

# Ray reads this while it is imported, hence here. Off, a Ray that a step starts for itself stays on
# the loopback interface; on, its default on Linux, it would listen to the network.
if not os.environ.get("RAY_ADDRESS"):
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
