"""A run that `abaw export` wrote, over a folder of face crops (00001.jpg, ...): numpy, Pillow and onnxruntime, no torch.

python examples/onnx_without_torch.py onnx/RUN cropped_aligned/VIDEO [FEATURE=FOLDER ...]

FOLDER is that of `abaw store export --feature FEATURE --format npy --out FOLDER`, for features that no encoder makes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

folder, video = Path(sys.argv[1]), Path(sys.argv[2])
crops, features = {int(file.stem): file for file in video.glob("*.jpg")}, {}  # values, and whether a frame has them
for file in folder.glob("encoder-*.onnx") if crops else ():
    encoder, rows = onnxruntime.InferenceSession(str(file)), np.array(sorted(crops)) - 1
    image = json.loads(encoder.get_modelmeta().custom_metadata_map["image"])
    size, how = image["size"][::-1], Image.Resampling[image["interpolation"].upper()]
    pictures = [np.asarray(Image.open(crops[row + 1]).convert("RGB").resize(size, how)) for row in rows]
    for output in encoder.get_outputs():
        encoded = np.concatenate([encoder.run([output.name], {"images": one[None]})[0] for one in pictures])
        values = np.zeros((rows[-1] + 1, *encoded.shape[1:]), np.float16)  # as in a store
        values[rows] = encoded
        features[output.name] = values, np.isin(np.arange(len(values)), rows)
for name, where in (word.split("=", 1) for word in sys.argv[3:]):
    features[name] = tuple(np.load(Path(where) / f"{video.name}{part}.npy") for part in ("", ".present"))
head = onnxruntime.InferenceSession(str(folder / "head.onnx"))
about = head.get_modelmeta().custom_metadata_map
window, stride, is_clip = int(about["window"]), int(about["stride"]), about["level"] == "video"
n = max(len(present if is_clip else np.trim_zeros(present, "b")) for _, present in features.values())
inputs, has_feature = {}, np.zeros(n, bool)
for name, (values, present) in features.items():
    source, known = np.arange(n), np.flatnonzero(present)
    has_feature[known[known < n]] = True
    if about["missing"] == "nearest" and len(known):
        source = known[np.abs(known - source[:, None]).argmin(axis=1)]
    is_known = np.isin(source, known)
    # zeros at the end make the last window as long as the others
    inputs[name] = np.zeros((n + window, *values.shape[1:]), np.float32)
    inputs[name][:n][is_known] = values[source[is_known]]
    inputs[f"{name}.mask"] = np.pad(is_known, (0, window))
starts = sorted({*range(0, max(1, n - window), stride), max(0, n - window)})
windows = [head.run(None, {name: rows[None, s : s + window] for name, rows in inputs.items()})[0][0] for s in starts]
if is_clip:
    answers = {video.name: np.mean(windows, axis=0)}
else:
    sums, counts = np.zeros((n, windows[0].shape[1])), np.zeros((n, 1))
    for start, of_window in zip(starts, windows, strict=True):  # the mean over overlapping windows
        sums[start : start + window] += of_window[: n - start]
        counts[start : start + window] += 1
    answers = {row + 1: sums[row] / counts[row] for row in np.flatnonzero(has_feature)}
print(about["level"], *json.loads(about["outputs"]), sep=",")
for name, values in answers.items():
    print(name, *(f"{value:.6f}" for value in values), sep=",")
