"""upload.py ENDPOINT KEY FILE: uploads a file by tuspy, each piece with its SHA-1, and says how many tries it took."""

import json
import sys

import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

endpoint, key, file = sys.argv[1:]
client = TusClient(endpoint, headers={"Authorization": f"Bearer {key}"})
url, tries = None, 0
while True:
    tries += 1
    uploader = None
    try:
        uploader = client.uploader(file, chunk_size=1 << 20, url=url, metadata={"filename": "clip.mp4"}, upload_checksum=True)
        uploader.upload()
        break
    except (TusCommunicationError, requests.RequestException) as cut:
        url = (uploader and uploader.url) or url
        if tries == 200:
            raise cut
print(json.dumps({"upload": uploader.url, "tries": tries}))
