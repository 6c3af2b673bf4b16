"""Posts first, connects afterwards, and stops at the first status that counts nothing: the history must be complete by then."""

import json
import sys

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

url, file = sys.argv[1:]
with open(file) as f:
    workflow = json.load(f)
for node in workflow.values():
    node.setdefault("_meta", {}).setdefault("title", node["class_type"])
title = next(n["_meta"]["title"] for n in workflow.values() if n["class_type"] in ("SaveImage", "PreviewImage"))
api = ComfyApiWrapper(url + "/")
images = api.queue_and_wait_images(ComfyWorkflowWrapper(workflow), title)
print(json.dumps([len(data) for data in images.values()]))
