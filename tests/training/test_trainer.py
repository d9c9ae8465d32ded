"""The Trainer: killed at any moment, it goes on as if nothing had happened."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import minitf as mt
from minitf import nn, optim
from minitf.data import Loader, text
from minitf.nn import functional as F
from minitf.training import Trainer, next_token_loss
from minitf.training.checkpoint_file import read_checkpoint, write_checkpoint

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, 0.01),
    "AdamW": lambda p: optim.AdamW([{"params": list(p), "weight_decay": 0.1}], 0.01),
    "AdamW8bit": lambda p: optim.AdamW8bit(p, 0.01, block=16, min_size=20),
    "Lion": lambda p: optim.Lion(p, 0.01),
    "LAMB": lambda p: optim.LAMB(p, 0.01),
    "Adafactor": lambda p: optim.Adafactor(p, 0.01),
}
X = np.random.default_rng(0).normal(size=(52, 6))
Y = np.random.default_rng(1).integers(0, 3, 52)


class Net(nn.Module):
    """A classifier with everything that has a state: dropout's generator, running statistics."""

    def __init__(self, D=8, seed=0):
        rng = np.random.default_rng(seed)
        self.up = nn.Linear(6, D, rng=rng)
        self.norm = nn.BatchNorm1d(D)
        self.drop = nn.Dropout(0.2, rng=rng)
        self.down = nn.Linear(D, 3, rng=rng)

    def forward(self, x):
        return self.down(self.drop(F.relu(self.norm(self.up(x)))))


def loss(model, x, y):
    return F.cross_entropy(model(x), y)


def trainer(folder=None, optimizer="AdamW", D=8, seed=0, **options):
    model = Net(D, seed)
    loader = Loader((X, Y), B=7, rng=np.random.default_rng(seed))
    settings = {
        "steps": 20,
        "schedule": "cosine",
        "accumulate": 2,
        "clip": 1.0,
        "ema": optim.EMA(model, 0.9, warmup=True),
        "evaluate": lambda model: {"loss": loss(model, X, Y).item()},
        "every": 5,
        "checkpoint_dir": folder,
        "progress": False,
        **options,
    }
    return Trainer(model, loss, loader, optimizer=OPTIMIZERS[optimizer](model.parameters()), **settings)


class Killed(Exception):
    pass


def kill_at(step):
    def callback(trainer):
        if trainer.step == step:
            raise Killed

    return callback


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_killed_run_goes_on_bit_for_bit(optimizer, tmp_path):
    straight = trainer(optimizer=optimizer)
    straight.run()
    with pytest.raises(Killed):  # two steps after the last checkpoint
        trainer(tmp_path, optimizer, checkpoint_every=7, callbacks=[kill_at(9)]).run()
    resumed = trainer(tmp_path, optimizer, seed=5)  # other weights, order and draws, all to be replaced
    assert resumed.resume()
    assert resumed.step == 7
    resumed.run()
    np.testing.assert_equal(resumed.state_dict(), straight.state_dict())
    assert resumed.history == straight.history
    assert len(straight.history.losses) == 20
    assert [type(x) for x in resumed.history.losses[:1] + resumed.history.steps[:1]] == [float, int]


def test_goes_on_from_any_step_of_an_epoch(tmp_path):
    """An epoch has 8 batches, a step 2 of them: cuts inside of and between epochs."""
    straight = trainer(steps=6, every=None)
    straight.run()
    for cut in range(1, 6):
        folder = tmp_path / str(cut)
        with pytest.raises(Killed):
            trainer(folder, steps=6, every=None, checkpoint_every=1, callbacks=[kill_at(cut + 1)]).run()
        resumed = trainer(folder, steps=6, every=None)
        resumed.resume()
        assert resumed.step == cut
        resumed.run()
        np.testing.assert_equal(resumed.state_dict(), straight.state_dict())


def test_an_endless_iterator_goes_on_where_its_generator_stood(tmp_path):
    ids = np.random.default_rng(0).integers(0, 9, 100)

    def make():
        rng = np.random.default_rng(0)
        model = nn.Embedding(9, 9, rng=rng)
        draws = np.random.default_rng(1)
        batches = text.batches(ids, 4, 8, rng=draws)
        optimizer = optim.SGD(model.parameters(), 1.0)
        options = {"steps": 6, "checkpoint_every": 2, "progress": False}
        return lambda folder, **more: Trainer(
            model, next_token_loss, batches, optimizer=optimizer, generators={"text": draws},
            checkpoint_dir=folder, **{**options, **more}
        )  # fmt: skip

    straight = make()(tmp_path / "a")
    straight.run()
    with pytest.raises(Killed):
        make()(tmp_path / "b", callbacks=[kill_at(5)]).run()
    resumed = make()(tmp_path / "b")
    resumed.resume()
    assert resumed.step == 4
    resumed.run()
    np.testing.assert_equal(resumed.state_dict(), straight.state_dict())


def test_accumulating_is_one_large_batch():
    ids = np.random.default_rng(0).integers(0, 5, (6, 9))
    targets = ids.copy()
    targets[0, 3:] = targets[4, 1:] = -100  # batches that count different numbers
    pieces = [(ids[:1], targets[:1]), (ids[1:3], targets[1:3]), (ids[3:], targets[3:])]
    nothing = (ids[:1], np.full((1, 9), -100))

    def train(batches, **options):
        model = nn.Embedding(5, 5, rng=np.random.default_rng(0))
        optimizer = optim.SGD(model.parameters(), 0.5)
        options = {"optimizer": optimizer, "steps": 3, "clip": 0.1, "progress": False, **options}
        history = Trainer(model, next_token_loss, itertools.cycle(batches), **options).run()
        return model.weight.data, history

    whole, history = train([(ids, targets)])
    count = lambda inputs, targets: (targets != -100).sum()
    parts, same = train([*pieces, nothing], accumulate=4, count=count)
    np.testing.assert_allclose(parts, whole, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(same.losses, history.losses, rtol=1e-13)
    np.testing.assert_allclose(same.grad_norms, history.grad_norms, rtol=1e-12)
    unweighted, _ = train(pieces, accumulate=3, count=lambda inputs, targets: 1)
    assert np.abs(unweighted - whole).max() > 1e-4
    by_rows, _ = train(pieces, accumulate=3)
    assert np.abs(by_rows - whole).max() > 1e-4
    with pytest.raises(ValueError, match="nothing is counted in the batches of step 0"):
        train([nothing], accumulate=2, count=count)


def test_evaluates_the_average_and_counts_epochs():
    seen = []
    run = trainer(steps=None, epochs=3, evaluate=lambda model: seen.append(model), every=None)
    assert run.steps == 12  # 8 batches an epoch, 2 a step
    run.run()
    assert seen == [run.ema.module]
    assert run.batches.epoch + run.batches.position / 8 == 3
    run.run()  # nothing is left to do
    assert len(run.history.steps) == 12


def test_keeps_the_newest(tmp_path):
    run = trainer(tmp_path, checkpoint_every=3, keep=2)
    (tmp_path / ".step-00000001.npz.left").touch()  # of a process that was killed while it wrote
    run.run()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000018.npz", "step-00000020.npz"]
    with pytest.raises(FileExistsError, match=r"has checkpoints of a run already; call resume\(\) first"):
        trainer(tmp_path).run()


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        trainer(tmp_path, checkpoint_every=4, callbacks=[kill_at(5)]).run()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        run = trainer(tmp_path, checkpoint_every=4, keep=1)
        run.resume()
        with pytest.raises(OSError, match="No space left"):
            run.run()
    run = trainer(tmp_path)
    run.resume()
    assert run.step == 4
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000004.npz"]


def test_an_interrupt_lets_the_step_end_and_saves(tmp_path):
    def interrupt(trainer):
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    run = trainer(tmp_path, callbacks=[interrupt])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped after 3 of 20 steps"):
        run.run()
    assert signal.getsignal(signal.SIGINT) is before
    resumed, straight = trainer(tmp_path), trainer()
    resumed.resume()
    assert resumed.step == 3
    resumed.run()
    straight.run()
    np.testing.assert_equal(resumed.state_dict(), straight.state_dict())


@pytest.mark.slow
def test_a_killed_process_leaves_a_checkpoint_that_loads(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_trainer import trainer
        run = trainer({str(tmp_path / "run")!r}, steps=10**6, every=None, checkpoint_every=1, keep=2)
        run.resume()
        print(run.step, flush=True)
        run.run()
        """)
    )
    rng = np.random.default_rng(0)
    reached = -1
    for _ in range(6):
        process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
        step = int(process.stdout.readline())  # it could load what the one before left
        assert step > reached
        reached = step
        goal = step + rng.integers(1, 20)
        while not list((tmp_path / "run").glob(f"step-{goal:08d}.npz")) and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_checkpoint_of_another_run_is_refused_whole(tmp_path):
    trainer(tmp_path, steps=3).run()
    (path,) = tmp_path.iterdir()
    others = {
        r"up.weight is float64 \(6, 9\) here, float64 \(6, 8\) in the state": trainer(D=9),
        "optimizer: Lion here, AdamW in the state": trainer(optimizer="Lion"),
        "ema: an average of the model only in the state": trainer(ema=None),
        "random generators: .* here": trainer(generators={"more": np.random.default_rng(0)}),
    }
    mine = trainer()
    mine.model.drop.rng = np.random.Generator(np.random.Philox(0))
    others["'drop.rng': 'Philox'"] = Trainer(mine.model, loss, mine.batches, optimizer=mine.optimizer, steps=1)
    wide = trainer()
    wide.model.astype("float32")
    others[r"float32 \(6, 8\) here, float64 \(6, 8\)"] = wide
    short = trainer()
    short.batches = Loader((X[:20], Y[:20]), B=7, rng=np.random.default_rng(0))
    others["of 52 examples in batches of 7, shuffled; here are 20"] = short
    two = trainer()
    two.optimizer = optim.AdamW([{"params": [p]} for p in two.model.parameters()])
    others["the groups here have"] = two
    for told, other in others.items():
        before = other.state_dict()
        with pytest.raises(ValueError, match=rf"(?s)step-00000003.npz does not fit.*{told}"):
            other.load(path)
        np.testing.assert_equal(other.state_dict(), before)

    class Renamed(Net):
        def __init__(self):
            super().__init__()
            self.head, self.down = self.down, lambda x: x

    other = Trainer(Renamed(), loss, [], optimizer=optim.SGD(Net().parameters(), 1), steps=1)
    with pytest.raises(ValueError, match=r"(?s)missing: parameter or buffer head.weight.*unexpected: .* down.weight"):
        other.load(path)


def test_a_damaged_checkpoint_is_refused_whole(tmp_path):
    trainer(tmp_path, steps=3).run()
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    state = read_checkpoint(path)
    middle = content.index(state["model"]["up.weight"].tobytes())
    changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    run = trainer(tmp_path, seed=3)
    before = run.state_dict()
    for damaged in (content[:-100], content[:middle], b"", changed):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"step-00000003\.npz is damaged"):
            run.resume()
    for other in ({"a": 1}, [1, 2], {**state, "kind": "?"}):
        write_checkpoint(path, other)
        with pytest.raises(ValueError, match="is not the state of a training run"):
            run.resume()
    write_checkpoint(path, {name: part for name, part in state.items() if name != "history"})
    with pytest.raises(ValueError, match="missing: history"):
        run.resume()
    np.testing.assert_equal(run.state_dict(), before)


def test_names_the_module_that_is_not_finite_first():
    class Explodes(nn.Module):
        def forward(self, x):
            return x / mt.sum(x * 0.0)

    run = trainer(evaluate=None, every=None)
    run.model.drop = nn.Sequential(nn.Identity(), Explodes())
    before = [p.data.copy() for p in run.model.parameters()]
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match=r"the loss is nan at step 0; .* of drop\.layers\.1 \(Explodes\)"),
    ):
        run.run()
    np.testing.assert_equal([p.data for p in run.model.parameters()], before)
    assert all("forward" not in vars(module) for module in run.model.modules())


def test_the_search_repeats_the_draws():
    """The output is bad for one draw of the mask only: a search with fresh draws would not see it."""

    class Unlucky(nn.Module):
        def __init__(self):
            self.rng = np.random.default_rng(0)
            self.draws = []

        def forward(self, x):
            self.draws.append(self.rng.random())
            return x * (np.nan if self.draws[-1] == rare else 1.0)

    rare = np.random.default_rng(0).random(8)[-1]  # batch 2 of step 3
    run = trainer(ema=None, evaluate=None, every=None)
    run.model.drop = unlucky = Unlucky()
    run.generators = dict(run.model.named_generators())
    with pytest.raises(FloatingPointError, match=r"at step 3; the first output .* is that of drop \(Unlucky\)"):
        run.run()
    assert unlucky.draws[6:8] == unlucky.draws[8:10]


def test_masked_logits_are_not_to_blame():
    """Minus infinity is legal; the module that makes NaN of it is not."""

    class Masks(nn.Module):
        def forward(self, x):
            return x + np.array([0.0, -np.inf, -np.inf])

    class Subtracts(nn.Module):
        def forward(self, x):
            return x - x

    model = nn.Sequential(nn.Linear(6, 3, rng=np.random.default_rng(0)), Masks(), Subtracts())
    run = Trainer(
        model, loss, Loader((X, Y), B=7), optimizer=optim.SGD(model.parameters(), 1.0), steps=2, progress=False
    )
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"is that of layers.2 \(Subtracts\)"):
        run.run()


def test_wrong_calls(tmp_path):
    endless = itertools.repeat((X, Y))
    model = Net()
    make = lambda batches=endless, **options: Trainer(
        model, loss, batches, **{"optimizer": optim.SGD(model.parameters(), 0.1), "steps": 1, **options}
    )
    for told, options in {
        "accumulate must be at least 1, got 0": {"accumulate": 0},
        "keep must be at least 1": {"keep": 0},
        "give either steps or epochs": {"epochs": 2},
        "epochs needs batches with a length": {"steps": None, "epochs": 2},
        "checkpoint_every needs a checkpoint_dir": {"checkpoint_every": 2},
        "a run on these batches could not be resumed; give a Loader": {"checkpoint_dir": tmp_path},
        "give both": {"every": 2},
    }.items():
        with pytest.raises(ValueError, match=f"Trainer: .*{told}|Trainer: {told}"):
            make(**options)
    for method in ("save", "resume"):
        with pytest.raises(ValueError, match=f"Trainer: {method} needs a checkpoint_dir"):
            getattr(make(), method)()
    assert not make(checkpoint_dir=tmp_path, generators={"x": np.random.default_rng(0)}).resume()
