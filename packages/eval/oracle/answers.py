"""What a model writes for GSM8K when lm-evaluation-harness asks it, and how that is scored there.

Usage: python answers.py MODEL FOLDER SHOTS TOKENS. FOLDER holds gsm8k.test.jsonl and gsm8k.train.jsonl, and is written to:
answers-<shots>.json has the scores, their standard errors, and of every question the prompt, the answer, both matches and the digest.
"""

import json
import pathlib
import sys

import lm_eval
import torch
from harness import local_tasks
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

MATCHES = ("strict-match", "flexible-extract")


def main(model, folder, shots, tokens):
    torch.set_num_threads(1)
    local_tasks(folder, ["gsm8k"])
    results = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=1),
        tasks=["local_gsm8k"],
        num_fewshot=shots,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        gen_kwargs=f"max_gen_toks={tokens}",
        log_samples=True,
    )
    found = {}
    for sample in results["samples"]["local_gsm8k"]:
        answer = found.setdefault(sample["doc_id"], {"sha256": sample["doc_hash"], "values": {}})
        answer["prompt"], answer["answer"] = sample["arguments"][0][0], sample["resps"][0][0]
        answer["values"][sample["filter"]] = sample["exact_match"]
    scores = {match: [results["results"]["local_gsm8k"][f"exact_match{kind},{match}"] for kind in ("", "_stderr")] for match in MATCHES}
    answers = {"scores": scores, "samples": [found[i] for i in sorted(found)]}
    (folder / f"answers-{shots}.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
