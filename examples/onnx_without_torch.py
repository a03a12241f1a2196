"""A run that `abaw export` wrote, over a folder of face crops (00001.jpg, ...): numpy, Pillow and onnxruntime, no torch.

python examples/onnx_without_torch.py onnx/RUN cropped_aligned/VIDEO
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

folder, crops = Path(sys.argv[1]), {int(file.stem): file for file in Path(sys.argv[2]).glob("*.jpg")}
rows, inputs = np.array(sorted(crops)) - 1, {}
for file in folder.glob("encoder-*.onnx"):
    encoder = onnxruntime.InferenceSession(str(file))
    image = json.loads(encoder.get_modelmeta().custom_metadata_map["image"])
    size, how = image["size"][::-1], Image.Resampling[image["interpolation"].upper()]
    pictures = [np.asarray(Image.open(crops[row + 1]).convert("RGB").resize(size, how)) for row in rows]
    for output in encoder.get_outputs():
        values = np.concatenate([encoder.run([output.name], {"images": one[None]})[0] for one in pictures])
        inputs[output.name] = np.zeros((rows[-1] + 1, *values.shape[1:]), np.float32)
        inputs[output.name][rows] = values.astype(np.float16)  # as in a store
        inputs[f"{output.name}.mask"] = np.isin(np.arange(rows[-1] + 1), rows)
head = onnxruntime.InferenceSession(str(folder / "head.onnx"))
about = head.get_modelmeta().custom_metadata_map
window, stride, n = int(about["window"]), int(about["stride"]), rows[-1] + 1
starts = sorted({*range(0, max(1, n - window), stride), max(0, n - window)})
sums, counts = np.zeros((n, len(json.loads(about["outputs"])))), np.zeros((n, 1))
for start in starts:  # the mean over overlapping windows
    part = slice(start, min(start + window, n))
    sums[part] += head.run(None, {name: values[None, part] for name, values in inputs.items()})[0][0]
    counts[part] += 1
print("frame", *json.loads(about["outputs"]), sep=",")
for row in rows:
    print(row + 1, *(f"{value:.6f}" for value in sums[row] / counts[row]), sep=",")
