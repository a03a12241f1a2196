"""The numbers of `speech-timing`: names and units. Loads no torch.

A run of speech is speech without a pause, and a pause is silence of at least a quarter of a second between two runs.
"""

PAUSE_S, LONG_PAUSE_S = 0.25, 1.0
# name -> unit and meaning, of the time that the numbers are about: the whole video, or a window around a frame
TIMING_NUMBERS = {
    "speech_share": "share of the time in which somebody speaks, 0 to 1",
    "speech_s": "s, in which somebody speaks",
    "words_per_s": "words in a second of the time",
    "words_per_speech_s": "words in a second of speech",
    "runs_per_min": "runs of speech in a minute of the time",
    "run_mean_s": "s, mean length of the runs",
    "run_max_s": "s, length of the longest run",
    "words_per_run": "words in a run",
    "pauses_per_min": "pauses in a minute of the time",
    "long_pauses_per_min": "pauses of at least 1 s in a minute of the time",
    "pause_share": "share of the time that is pauses, 0 to 1",
    "pause_mean_s": "s, mean length of the pauses",
    "pause_max_s": "s, length of the longest pause",
    "pause_std_s": "s, standard deviation of the lengths of the pauses",
    "lead_s": "s, silence before the first run",
    "tail_s": "s, silence after the last run",
}
