"""Small encoders of text in folders as Hugging Face publishes them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LENGTH = 20  # tokens that the network takes
TEXTS = ("Well, I do not know.", "yes", "I would like to, but one part of me, well, it really does not want to.")


def save_roberta(folder: Path) -> Path:
    """A RoBERTa with its head, as it is published, and a tokenizer of bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", **dict(names)
    ).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    # positions begin after the padding index, 1
    config = RobertaConfig(vocab_size=280, max_position_embeddings=LENGTH + 2, pad_token_id=1, **size)
    torch.manual_seed(0)
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder
