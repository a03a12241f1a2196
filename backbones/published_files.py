"""The public checkpoints of the backbones."""

from dataclasses import dataclass
from pathlib import Path

FOLDER_OF_HUB = "the folder"  # name of a checkpoint that is a folder of Hugging Face
# of tokenizers of transformers: of these there is at least one, and all together may change what comes out of them
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "spiece.model", "sentencepiece.bpe.model")
TOKENIZER_FILES = (
    *VOCABULARIES,
    *("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)


@dataclass(frozen=True)
class KnownWeights:
    """A public checkpoint.

    Attributes:
        name: the file, as its authors call it.
        family: of the backbones that it fits.
        source: the page where it is published; "" if there is no page.
        by: who publishes it.
        md5, sha256: the first digits that are published; empty if none are.
        url: of the file itself; "" if it cannot be downloaded without a click or a request.
        hub: repository of Hugging Face, if it has one.
        saved_as: its name in the weights folder; "" for the family's name with the suffix of `name`.
        licence: in a word; "" for the first word of the backbone's.
    """

    name: str
    family: str
    source: str
    by: str = ""
    md5: str = ""
    sha256: str = ""
    url: str = ""
    hub: str = ""
    saved_as: str = ""
    licence: str = ""

    @property
    def can_be_fetched(self) -> bool:
        """True if `abaw weights get` downloads it."""
        return bool(self.url or self.hub)

    @property
    def target(self) -> str:
        """Its name in the weights folder, of a file or a folder."""
        stem = self.family.replace("/", "-")
        return self.saved_as or (stem if self.is_folder else stem + Path(self.name).suffix)

    @property
    def is_folder(self) -> bool:
        """True for models of transformers, which need their config as well."""
        return self.name == FOLDER_OF_HUB


MAE_URL = "https://dl.fbaipublicfiles.com/mae/pretrain"
MAE_PAGE = "https://github.com/facebookresearch/mae"
INSIGHTFACE = "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch"
VGGISH = "https://github.com/harritaylor/torchvggish/releases"
HSEMOTION = "https://github.com/sb-ai-lab/EmotiEffLib"
VGGFACE = "https://github.com/cydonia999/VGGFace2-pytorch"


def _mae(family: str, name: str, md5: str) -> KnownWeights:
    return KnownWeights(name, family, MAE_PAGE, "Meta", md5=md5, url=f"{MAE_URL}/{name}")


def _vggish(name: str, sha256: str, saved_as: str = "") -> KnownWeights:
    url = f"{VGGISH}/download/v0.1/{name}"
    return KnownWeights(name, "vggish", f"{VGGISH}/tag/v0.1", "torchvggish", sha256=sha256, url=url, saved_as=saved_as)


def _hub(family: str, repository: str) -> KnownWeights:
    return KnownWeights(FOLDER_OF_HUB, family, f"https://huggingface.co/{repository}", repository, hub=repository)


def _timm(family: str, model: str) -> KnownWeights:
    repository = f"timm/{model}"
    return KnownWeights("model.safetensors", family, f"https://huggingface.co/{repository}", "timm", hub=repository)


def _arcface(name: str, family: str) -> KnownWeights:
    return KnownWeights(name, family, INSIGHTFACE, "insightface", licence="research-only")


KNOWN = (
    _mae("mae", "mae_pretrain_vit_base.pth", "8cad7c"),
    _mae("mae-l", "mae_pretrain_vit_large.pth", "b8b06e"),
    _mae("mae-h", "mae_pretrain_vit_huge.pth", "9bdbb0"),
    KnownWeights("affecnet8_*.pth", "dan", "https://github.com/yaoing/DAN", "DAN's authors"),
    KnownWeights("EMMA checkpoint", "emma", "https://github.com/JackYFL/EMMA_CoTEX_ABAW4", "EMMA's authors"),
    _arcface("backbone.pth (ms1mv3 r18)", "iresnet18"),
    _arcface("backbone.pth (ms1mv3 r34)", "iresnet34"),
    _arcface("backbone.pth (glint360k r50)", "iresnet50"),
    _arcface("backbone.pth (glint360k r100)", "iresnet100"),
    _arcface("backbone.pth (r200)", "iresnet200"),
    KnownWeights("V-NAW's Swin", "swin-face", "", "V-NAW's authors", licence="ask them"),
    KnownWeights("resnet50_ft_weight.pkl", "resnet50-vggface", VGGFACE, "VGGFace2-pytorch", licence="research-only"),
    KnownWeights(
        "resnet50_ft_weight.pkl", "resnet50-vggface-caffe", VGGFACE, "VGGFace2-pytorch", licence="research-only"
    ),
    KnownWeights("enet_b0_8_*.pt", "emotieffnet-b0", HSEMOTION, "HSEmotion"),
    KnownWeights("enet_b2_*.pt", "emotieffnet-b2", HSEMOTION, "HSEmotion"),
    KnownWeights("MT-EmotiDDAMFN checkpoint", "emotiddamfn", HSEMOTION, "HSEmotion", licence="research-only"),
    _vggish("vggish-10086976.pth", "10086976"),
    _vggish("vggish_pca_params-970ea276.pth", "970ea276", "vggish_pca_params-970ea276.pth"),
    _hub("wav2vec2", "facebook/wav2vec2-base-960h"),
    _hub("hubert", "facebook/hubert-base-ls960"),
    _hub("wavlm", "microsoft/wavlm-base-plus"),
    _hub("whisper", "openai/whisper-base"),
    _hub("text", "FacebookAI/roberta-base"),
    _hub("ast", "MIT/ast-finetuned-audioset-10-10-0.4593"),
    _timm("vit", "vit_base_patch16_224.augreg2_in21k_ft_in1k"),
    _timm("vit-tiny", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"),
    _timm("resnet50", "resnet50.a1_in1k"),
    _timm("swin-t", "swin_tiny_patch4_window7_224.ms_in1k"),
    _timm("clip-l14", "vit_large_patch14_clip_224.openai"),
    _timm("dinov3-s16", "vit_small_patch16_dinov3_qkvb.lvd1689m"),
    _timm("dinov3-b16", "vit_base_patch16_dinov3_qkvb.lvd1689m"),
    _timm("dinov3-l16", "vit_large_patch16_dinov3_qkvb.lvd1689m"),
)
