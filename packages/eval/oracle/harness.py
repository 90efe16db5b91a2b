"""What lm-evaluation-harness says about tasks whose records lie in local files.

Usage: python harness.py MODEL FOLDER SHOTS LIMIT TASK... FOLDER holds <task>.<split>.jsonl. The harness's own task files are used; all that
is changed is where the records come from. Writes a line of JSON for each task: its scores and their standard errors, and of every example
the log-likelihoods and the digest of its record.
"""

import json
import pathlib
import sys

import lm_eval
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

SPLITS = ("train", "validation", "test")


def local_tasks(folder, names):
    """A YAML file a task that includes the harness's own and reads local files."""
    known = {}
    for path in pathlib.Path(lm_eval.__file__).parent.joinpath("tasks").rglob("*.yaml"):
        for line in path.read_text().splitlines():
            if line.startswith("task: "):
                known[line[6:].strip()] = path
    for name in names:
        files = {split: str(folder / f"{name}.{split}.jsonl") for split in SPLITS}
        files = {split: path for split, path in files.items() if pathlib.Path(path).exists()}
        # Where the harness names the splits of a dataset otherwise.
        own = yaml.load(known[name].read_text(), Loader=yaml.BaseLoader)
        renamed = {own.get("validation_split", "validation"): "validation"}
        files = {**files, **{to: files[frm] for to, frm in renamed.items() if frm in files}}
        config = {
            "include": str(known[name]),
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
            # LAMBADA has none in the harness, which then draws solved examples from what is judged.
            "training_split": "train",
        }
        (folder / f"local_{name}.yaml").write_text(yaml.safe_dump(config))


def main(model, folder, shots, limit, names):
    torch.set_num_threads(1)
    local_tasks(folder, names)
    harness = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=16)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    for name in names:
        local = f"local_{name}"
        results = lm_eval.simple_evaluate(
            model=harness, tasks=[local], num_fewshot=shots, limit=limit, task_manager=manager, bootstrap_iters=1000, log_samples=True
        )
        samples = sorted(results["samples"][local], key=lambda sample: sample["doc_id"])
        answers = {
            "task": name,
            "scores": {key.split(",")[0]: value for key, value in results["results"][local].items() if "," in key},
            "samples": [
                {"logLikelihoods": [float(answer[0]) for answer in sample["filtered_resps"]], "sha256": sample["doc_hash"]}
                for sample in samples
            ],
        }
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
