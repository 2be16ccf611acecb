"""What the files of serving/ say."""

import re
from pathlib import Path

from cnn_compression.serving import local_server

SERVING = Path(local_server.__file__).parent


def image_command():
    """The words of the Dockerfile's CMD."""
    text = (SERVING / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(r'"([^"]+)"', re.search(r"^CMD \[(.*)\]", text, re.M)[1])
