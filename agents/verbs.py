"""The verbs of the command line as a table: what each does, how its help teaches it, what to do next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One command.

    Attributes:
        summary: its line in ``procosm --help``. teaches: its own help: what, an example, what it writes.
        config, function: ``module:name`` of the dataclass that tyro parses and of what is called with it.
        next: what to do afterwards; ``{program}`` is what a shell here calls procosm, ``{made}`` what was written and
            ``{run}`` the folder around it, as a shell reads them; ``{page}`` is the former in prose, ``{python}`` in
            Python; ``{allow}`` allows the modules that this command was allowed to import.
    """

    summary: str
    teaches: str
    config: str
    function: str
    next: str


VERBS = {
    "demo": Verb(
        "watch the whole road once: InvertedPendulum, in minutes on two cores",
        "Learns a world model of InvertedPendulum from 64x64 pixels, trains a policy only inside it and judges that "
        "policy in MuJoCo.\n\n"
        "Example:  procosm demo\n\n"
        "Writes runs/demo: data/, world_model/, policy/, evaluation/, report.html, metrics.json. Killed at any moment, "
        "the same command goes on.",
        "procosm.agents.run:DemoConfig",
        "procosm.agents.run:demo",
        "Open {page} in a browser. Another task: procosm run --env Reacher --out runs/reacher",
    ),
    "run": Verb(
        "the whole road for any MuJoCo task: collect, train, train-policy, evaluate, report",
        "From a MuJoCo task to a policy trained in its dream and judged in MuJoCo, in one command.\n\n"
        "Example:  procosm run --env Reacher --out runs/reacher --steps 20000\n\n"
        "--env takes any Gymnasium MuJoCo id (Swimmer-v5), dm_control/<domain>-<task> (pip install 'procosm[data]'), "
        "or a name of ours. Writes OUT/data, world_model, policy, evaluation, report.html and metrics.json. A finished "
        "stage is skipped, a killed one goes on; a stage with other settings is named, never overwritten.",
        "procosm.agents.run:RunConfig",
        "procosm.agents.run:run",
        "Open {page} in a browser.",
    ),
    "improve": Verb(
        "rounds of collect, train, train-policy: each collects with what the last one learned",
        "Divides one budget of real steps into rounds. Each collects with the policy so far (and noise, and a share of "
        "older policies), goes on training the world model on all data, practises in it from the newest starts, and is "
        "judged in MuJoCo. Dreams end where their trust does.\n\n"
        "Example:  procosm improve --env Reacher --out runs/improved --steps 20000 --rounds 4 --mark -5\n\n"
        "Writes OUT/improve.json and improve.png, the return over real steps, after each round; OUT/round_00 and so on "
        "are run folders. Killed at any moment, the same command goes on.",
        "procosm.agents.policy.improve.improve:ImproveConfig",
        "procosm.agents.policy.improve.improve:improve",
        "Open {page} in a browser; improve.png in OUT shows the return over real steps.",
    ),
    "collect": Verb(
        "log episodes of a MuJoCo task, with pixels",
        "Acts in MuJoCo and logs frames and actions as a Minari dataset; by default true states and rewards too "
        "(--signals none, reward or all). --wide 0 --constant 0 begin all episodes at the task's own reset.\n\n"
        "Example:  procosm collect --env Reacher --out runs/reacher --steps 20000\n\n"
        "Writes OUT/data: training, held-out and constant-action episodes, and task.json.",
        "procosm.envs.collect.collect:CollectConfig",
        "procosm.agents.road:collect_stage",
        "Next: {program} train --data {made} --out {run}/world_model{allow}",
    ),
    "ingest": Verb(
        "turn robot logs into a dataset: LeRobot, Minari, robomimic, video files, NumPy archives",
        "Reads recordings of any of these formats as they are, checks each row by row, and writes them as a dataset "
        "that `procosm train` takes. What cannot be read is named and left out.\n\n"
        "Example:  procosm ingest --data ~/lerobot/pusht --out runs/pusht\n\n"
        "Writes OUT/data.",
        "procosm.world_model.data.ingest:IngestConfig",
        "procosm.world_model.data.ingest:ingest",
        "Next: {program} train --data {made} --out {run}/world_model",
    ),
    "mix": Verb(
        "join datasets of several robots in one, for a world model that knows them all",
        "Writes datasets as one: actions padded with zeros, the name of its task as what is said of each episode, the "
        "signals that all have alike. Train on it with --text, then post-train on a robot that is none of them.\n\n"
        "Example:  procosm mix --data runs/swimmer/data runs/hopper/data --out runs/many\n\n"
        "Writes OUT/data.",
        "procosm.world_model.data.mixture:MixConfig",
        "procosm.world_model.data.mixture:mix",
        "Next: {program} train --data {made} --out {run}/world_model --text",
    ),
    "curate": Verb(
        "clean robot logs: cut, filter, annotate, remove duplicates, write shards",
        "Cuts logs at shots and gaps; leaves out clips that are static, frozen, shaky, blurred, dark, written over or "
        "late, that do not answer to their actions, or repeat another one; writes the rest as webdataset shards. "
        "Killed at any moment, the same command goes on.\n\n"
        "Example:  procosm curate --data ~/lerobot/pusht --out shards/pusht --workers 4\n\n"
        "Writes OUT/*.tar, index.json and curation.html, which shows what was left out and why.",
        "procosm.world_model.curation.curate:CurateConfig",
        "procosm.world_model.curation.curate:curate",
        "Look at {page}/curation.html. Next: {program} train --data {made} --out {run}/world_model",
    ),
    "guard": Verb(
        "judge prompts and generated video: blocked words, broken frames, faces, what the model never saw",
        "Refuses a prompt with blocked words in any of their forms, and video whose frames are no numbers, stand still "
        "under changing actions, flicker, or are unlike what the world model was trained on; covers faces. Where a "
        "check fails, the answer is no.\n\n"
        'Example:  procosm guard --prompt "push the red cube" --data runs/pusht/data --out runs/guard\n\n'
        "Writes OUT/guard.json, and OUT/NAME.mp4 of video whose faces were covered. Exits with 1 if anything is "
        "refused.",
        "procosm.world_model.guardrails.guard:GuardConfig",
        "procosm.world_model.guardrails.guard:guard",
        "Everything passed: {page}",
    ),
    "export": Verb(
        "write episodes as a LeRobot or Minari dataset",
        "Writes a dataset, shards, or logs that ingest reads in a format that others read.\n\n"
        "Example:  procosm export --data runs/pusht/data --out export/pusht --to lerobot",
        "procosm.world_model.data.ingest:ExportConfig",
        "procosm.world_model.data.ingest:export",
        "",
    ),
    "imagine": Verb(
        "record dreams as a dataset: by a policy, or under logged actions",
        "Dreams in a world model and writes what is dreamed as a dataset, which `procosm export` turns into LeRobot or "
        "Minari. Its states are called estimated_state, for they are the model's.\n\n"
        "Example:  procosm imagine --world-model runs/reacher/world_model --out runs/dreams --policy "
        "policy:runs/reacher/policy/policy.zip\n\n"
        "Writes OUT/data.",
        "procosm.envs.collect.imagine:ImagineConfig",
        "procosm.envs.collect.imagine:imagine",
        "Next: {program} export --data {made} --out EXPORT --to lerobot",
    ),
    "train": Verb(
        "train a world model on logged episodes",
        "Trains a tokenizer, then a diffusion model of what each action does to its latents, then that model on its "
        "own predictions; a growth test on held-out episodes decides when the last part is done.\n\n"
        "Example:  procosm train --data runs/reacher/data --out runs/reacher/world_model\n"
        "          procosm train --data runs/reacher/data --out runs/7b --preset 7b --parallel fsdp --dry-run "
        "--devices 64 --flops 4e14\n\n"
        "Writes OUT, a checkpoint folder: config.json, *.safetensors, metrics.json, provenance.json.",
        "procosm.world_model.training.train:TrainConfig",
        "procosm.agents.road:train_stage",
        "Next: {program} train-policy --world-model {made} --out {run}/policy{allow}\n"
        'Or open it: gym.make("procosm.envs:Procosm/World-v0", checkpoint={python})',
    ),
    "post-train": Verb(
        "go on training a world model on the log of another robot or task",
        "Begins with the weights of a checkpoint, or of a published model, and trains them on another dataset: all of "
        "them, or low-rank updates (--method lora). What the new log has in common with the old one is kept; docs/"
        "post_training.md tells what begins anew. The base is not written to.\n\n"
        "Example:  procosm post-train --base runs/many/world_model --data runs/mine/data --out runs/mine/model\n\n"
        "Writes OUT, a checkpoint folder that opens by itself, with lora beside adapter.safetensors. Killed at any "
        "moment, the same command goes on.",
        "procosm.world_model.training.post:PostTrainConfig",
        "procosm.agents.road:post_train_stage",
        "Next: {program} train-policy --world-model {made} --out {run}/policy{allow}\n"
        'Or open it: gym.make("procosm.envs:Procosm/World-v0", checkpoint={python})',
    ),
    "train-policy": Verb(
        "train a policy only inside a world model",
        "Trains PPO, SAC (Stable-Baselines3) or SHAC in many dreams at once. MuJoCo is looked at now and then, to show "
        "the true return, and never learned from.\n\n"
        "Example:  procosm train-policy --world-model runs/reacher/world_model --out runs/reacher/policy\n\n"
        "Writes OUT/policy.zip (no pickle; procosm.envs.collect.policy_file.load_policy opens it), training.json and "
        "TensorBoard logs under tb/.",
        "procosm.agents.policy.train:PolicyConfig",
        "procosm.agents.road:policy_stage",
        "Next: {program} evaluate --run {run}{allow}",
    ),
    "plan": Verb(
        "choose actions by search in the dream: iCEM, MPPI, the best of a policy's",
        "Writes the settings of a planner, which tries many sequences of actions in the dream at every step and does "
        "the first action of the best. It stands where a policy may stand.\n\n"
        "Example:  procosm plan --out plan.json --horizon 12 --policy runs/reacher/policy/policy.zip\n\n"
        "Writes OUT, a JSON file.",
        "procosm.agents.policy.plan.command:PlanFileConfig",
        "procosm.agents.policy.plan.command:plan",
        "Next: {program} evaluate --run RUN --policy {made} --episodes 10\n"
        "Or watch it: {program} play RUN --policy {made}",
    ),
    "evaluate": Verb(
        "judge a run by MuJoCo: returns with intervals, fidelity by horizon, speed",
        "Plays the policy in MuJoCo from pixels beside a zero-action and a random control, and in the dream from the "
        "same first frames; compares held-out episodes with the dream under the same actions, step by step.\n\n"
        "Example:  procosm evaluate --run runs/reacher --episodes 100\n\n"
        "Writes RUN/evaluation (metrics.json, csv, mp4) and RUN/metrics.json.",
        "procosm.agents.judge.evaluate:EvaluateConfig",
        "procosm.agents.road:evaluate_stage",
        "Next: {program} report --run {run}{allow}",
    ),
    "report": Verb(
        "make the page about an evaluated run",
        "Joins films, charts and numbers of a run in one self-contained page; it loads nothing from the network.\n\n"
        "Example:  procosm report --run runs/reacher\n\n"
        "Writes RUN/report.html.",
        "procosm.agents.report.report:ReportConfig",
        "procosm.agents.road:report_stage",
        "Open {page} in a browser.",
    ),
    "play": Verb(
        "steer a dream in a browser, beside MuJoCo under the same actions",
        "Serves a page on this machine. The policy that belongs to the checkpoint steers the dream and MuJoCo, each by "
        "what it sees there, until keyboard, mouse, touch or gamepad takes over, in both alike; pause, go back, change "
        "horizon and denoising steps, record.\n\n"
        "Example:  procosm play runs/reacher\n\n"
        "Without a checkpoint it opens the InvertedPendulum that ships. Recordings go to runs/play: film.mp4 and "
        "episode.npz each.",
        "procosm.envs.play.command:PlayConfig",
        "procosm.agents.policy.plan.command:play",
        "",
    ),
    "train-tokenizer": Verb(
        "train a tokenizer on datasets or video files",
        "Learns to code video as few numbers or tokens, and back, at one of ten rates; single images and clips are "
        "trained together. docs/tokenizers.md says which rate fits which data.\n\n"
        "Example:  procosm train-tokenizer --data runs/reacher/data films/ --out runs/tokenizer --rate DV4x8x8\n\n"
        "Writes OUT: config.json, tokenizer.safetensors, metrics.json, provenance.json. Killed at any moment, the same "
        "command goes on.",
        "procosm.world_model.tokenizer.training:TokenizerTrainConfig",
        "procosm.agents.road:tokenizer_stage",
        "Next: {program} encode --tokenizer {made} --video VIDEO --out LATENTS.safetensors",
    ),
    "encode": Verb(
        "code a video file as latents or tokens",
        "Codes a video of any length and size with a trained tokenizer.\n\n"
        "Example:  procosm encode --video film.mp4 --tokenizer runs/tokenizer --out film.safetensors\n\n"
        "Writes OUT, a .safetensors file; its metadata say what is needed to decode it. Killed at any moment, the same "
        "command goes on.",
        "procosm.world_model.tokenizer.transcode:EncodeConfig",
        "procosm.world_model.tokenizer.transcode:encode",
        "Next: {program} decode --latents {made} --tokenizer TOKENIZER --out VIDEO.mp4",
    ),
    "decode": Verb(
        "turn latents or tokens back into a video file",
        "Decodes what `procosm encode` made, with the tokenizer that coded it.\n\n"
        "Example:  procosm decode --latents film.safetensors --tokenizer runs/tokenizer --out decoded.mp4\n\n"
        "Writes OUT, an mp4 file. Killed at any moment, the same command goes on.",
        "procosm.world_model.tokenizer.transcode:DecodeConfig",
        "procosm.world_model.tokenizer.transcode:decode",
        "",
    ),
    "accelerator": Verb(
        "model the Procrustes hardware: cycles and energy of sparse training",
        "Maps the training of a network onto the Procrustes accelerator, dense and sparse, and counts cycles and "
        "energy.\n\n"
        "Example:  procosm accelerator --network resnet18",
        "procosm.sparse.accelerator.command:AcceleratorConfig",
        "procosm.sparse.accelerator.command:accelerate",
        "",
    ),
}
