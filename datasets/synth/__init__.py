"""Synthetic group-emotion clips, after the winners of EmotiW 2023: face cut-outs of one class on one background.

The rules, all of which hold in every frame of every clip (`SynthOptions` has the figures):

- 3 to 15 faces. The longer side of a face is 350 px times a scale between .10 and .15: 35 to 52 px. It is rotated by
  up to 45 degrees either way with probability .5.
- Two faces overlap by at most .1 %: the intersection of their boxes over the visible area of the smaller face. A box
  is the smallest one around everything that is drawn of a face, so the pixels themselves overlap by no more.
- Margin: in frame k (from 0) every box stays at least 30 + k px away from all four borders, 104 px in the last of 75.
- Faces are squashed to squares, and backgrounds stretched to one.

How faces move. The published generator draws place, scale and angle of each face in every frame, inside that frame's margin,
and leaves out those for which it finds no room: of 15 faces few fit into the 118 px that the last frame has. So does
`motion="frame"`, the default; a frame in which fewer than 3 find room is drawn again, 50 times at most.

With `motion="path"` a clip is a film and not 75 pictures. Cut-out, scale and angle of a face stay the same for a clip. Each
face moves on a straight line from a place within the first frame's margin to one within the last frame's; then it is
within every margin between, since both grow linearly. It shows until it would run into a face that was placed before
it, and is gone from there on. The first 3 faces are planned to stay to the end, so a clip begins with all of its
faces and never shows fewer than 3. Should they find no such paths, scales and angles are drawn again (for ovals one
clip in three needs that, which makes clips of small upright faces a little more frequent), 50 times at most.

Transparent borders are cut away before cut-outs are measured. Crops without transparency
get an ellipse that touches their sides as outline. A clip shows no cut-out twice unless the class has too few.
"""

from abaw.datasets.synth.clips_writer import KINDS, Made, clip_name, write_clips
from abaw.datasets.synth.cutouts import LABELS
from abaw.datasets.synth.paths import SynthOptions

__all__ = ["KINDS", "LABELS", "Made", "SynthOptions", "clip_name", "write_clips"]
