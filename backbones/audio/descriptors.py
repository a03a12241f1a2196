"""Names of openSMILE's low-level descriptors, in its order."""

_VOICE = ("F0final", "voicingFinalUnclipped", "jitterLocal", "jitterDDP", "shimmerLocal", "logHNR")
_ENERGY = ("audspec_lengthL1norm", "audspecRasta_lengthL1norm", "pcm_RMSenergy", "pcm_zcr")
_BANDS = ("fband250-650", "fband1000-4000", *(f"spectralRollOff{share}.0" for share in (25, 50, 75, 90)))
_SPECTRUM = tuple(f"spectral{name}" for name in ("Flux", "Centroid", "Entropy", "Variance", "Skewness", "Kurtosis"))
_REST = ("spectralSlope", "psySharpness", "spectralHarmonicity")


def _compare(ending: str) -> tuple[str, ...]:
    return (
        *(f"{name}_{ending}" for name in (*_VOICE, *_ENERGY)),
        *(f"audSpec_Rfilt_{ending}[{band}]" for band in range(26)),
        *(f"pcm_fftMag_{name}_{ending}" for name in (*_BANDS, *_SPECTRUM, *_REST)),
        *(f"mfcc_{ending}[{order}]" for order in range(1, 15)),
    )


def _formant(number: int) -> tuple[str, ...]:
    return tuple(f"F{number}{name}_sma3nz" for name in ("frequency", "bandwidth", "amplitudeLogRelF0"))


COMPARE_NAMES = (*_compare("sma"), *_compare("sma_de"))
EGEMAPS_NAMES = (
    *(f"{name}_sma3" for name in ("Loudness", "alphaRatio", "hammarbergIndex", "slope0-500", "slope500-1500")),
    *(f"{name}_sma3" for name in ("spectralFlux", "mfcc1", "mfcc2", "mfcc3", "mfcc4")),
    *(f"{name}_sma3nz" for name in ("F0semitoneFrom27.5Hz", "jitterLocal", "shimmerLocaldB", "HNRdBACF")),
    *(f"logRelF0-H1-{name}_sma3nz" for name in ("H2", "A3")),
    *(name for number in (1, 2, 3) for name in _formant(number)),
)
# The first version (2016) lacks the bandwidths of the second and third formant
EGEMAPS_V01A_NAMES = tuple(name for name in EGEMAPS_NAMES if name not in ("F2bandwidth_sma3nz", "F3bandwidth_sma3nz"))
