"""Settings: what a typo, a wrong type and a value out of range are told."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from semid.config import apply_overrides, as_plain, parse, read_toml
from semid.errors import SemidError
from semid.fit_config import FitConfig, KMeansConfig, TrainingConfig
from semid.model_config import ModelConfig


def parsed(settings: dict[str, Any]) -> FitConfig:
    return parse(FitConfig, settings, where="train.toml")


def test_defaults() -> None:
    assert parsed({}) == FitConfig()


def test_nested_tables_lists_and_whole_numbers() -> None:
    config = parsed(
        {
            "quantizer": "rqvae",
            "levels": [64, 1, 7],
            "model": {"hidden": [32], "latent_dim": 4},
            "training": {"epochs": 3, "learning_rate": 1},
        }
    )
    assert config == FitConfig(
        quantizer="rqvae",
        levels=(64, 1, 7),
        model=ModelConfig(latent_dim=4, hidden=(32,)),
        training=TrainingConfig(epochs=3, learning_rate=1.0),
    )
    assert isinstance(config.training.learning_rate, float)


def test_keys_with_dots_are_nested_ones() -> None:
    dotted = {"training.epochs": 3, "training": {"learning_rate": 1}, "model.hidden": [32]}
    nested = {"training": {"epochs": 3, "learning_rate": 1}, "model": {"hidden": [32]}}
    assert parsed(dotted) == parsed(nested)
    with pytest.raises(SemidError, match=r"train.toml: unknown setting 'training.epoch'; the"):
        parsed({"training.epoch": 3})
    with pytest.raises(SemidError, match=r"train.toml: 'seed.a': 'seed' is not a table of sett"):
        parsed({"seed": 3, "seed.a": 3})


def test_settings_go_to_json_and_back() -> None:
    config = parsed({"levels": [3, 5], "model": {"hidden": [7, 9]}, "seed": 4})
    plain = as_plain(config)
    assert plain["model"]["hidden"] == [7, 9]
    assert parsed(json.loads(json.dumps(plain))) == config


def test_parsing_leaves_the_settings_alone() -> None:
    settings: dict[str, Any] = {"levels": [3, 5], "model": {"hidden": [7, 9]}}
    before = copy.deepcopy(settings)
    parsed(settings)
    assert settings == before


def test_configs_are_frozen() -> None:
    for config in (FitConfig(), ModelConfig(), TrainingConfig(), KMeansConfig()):
        first = dataclasses.fields(config)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, first, 1)


def test_unknown_settings_list_the_valid_ones() -> None:
    with pytest.raises(SemidError) as error:
        parsed({"epoch": 3})
    assert str(error.value) == (
        "train.toml: unknown setting 'epoch'; the valid ones are quantizer, levels, columns, seed, "
        "holdout, memory_gib, model, codebooks, loss, contrast, training, kmeans"
    )
    with pytest.raises(SemidError) as error:
        parsed({"kmeans": {"iteration": 3}})
    assert str(error.value) == (
        "train.toml: unknown setting 'kmeans.iteration'; the valid ones are kmeans.iterations, "
        "kmeans.max_rows, kmeans.pca, kmeans.size_limit, kmeans.init, "
        "kmeans.library"
    )


WRONG_TYPES: list[tuple[dict[str, Any], str]] = [
    ({"levels": "256"}, "levels = '256' is not valid"),
    ({"levels": 256}, "levels = 256 is not valid"),
    ({"levels": [256, "many"]}, "levels.1 = 'many' is not valid"),
    ({"levels": [256.5]}, "levels.0 = 256.5 is not valid"),
    ({"seed": 1.5}, "seed = 1.5 is not valid"),
    ({"seed": None}, "seed = None is not valid"),
    ({"quantizer": 5}, "quantizer = 5 is not valid"),
    ({"training": 5}, "'training' must be a table of settings, not 5"),
    ({"training": {"epochs": "ten"}}, "training.epochs = 'ten' is not valid"),
    ({"model": {"hidden": 64}}, "model.hidden = 64 is not valid"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG_TYPES, ids=str)
def test_wrong_types_name_the_setting_and_the_value(settings: Any, message: str) -> None:
    with pytest.raises(SemidError) as error:
        parsed(settings)
    assert str(error.value).startswith(f"train.toml: {message}")


NAN, INF = float("nan"), float("inf")
OUT_OF_RANGE: list[tuple[dict[str, Any], str]] = [
    ({"quantizer": "dpq"}, "unknown quantizer 'dpq'; use one of rqvae, vqvae"),
    ({"levels": []}, "levels are []; give at least one"),
    ({"levels": [4, 0]}, "levels are [4, 0]; give at least one, each of at least 1 codeword"),
    ({"seed": -1}, "seed is -1; it must be at least 0 and below 2^31"),
    ({"seed": 2**31}, "seed is 2147483648"),
    ({"holdout": 1.0}, "holdout is 1.0; it must be at least 0 and below 1"),
    ({"holdout": -0.1}, "holdout is -0.1"),
    ({"holdout": NAN}, "holdout is nan"),
    ({"memory_gib": -1}, "memory_gib is -1.0; it must be at least 0"),
    ({"memory_gib": NAN}, "memory_gib is nan"),
    ({"memory_gib": INF}, "memory_gib is inf"),
    ({"model": {"latent_dim": 0}}, "model.latent_dim 0 and model.hidden [768, 384] must be"),
    ({"model": {"hidden": [8, 0]}}, "model.latent_dim 128 and model.hidden [8, 0] must be"),
    ({"training": {"epochs": 0}}, "training.epochs is 0; it must be at least 1"),
    ({"training": {"max_steps": 0}}, "training.max_steps is 0"),
    ({"codebooks": {"init_rows": 0}}, "codebooks.init_rows is 0"),
    ({"training": {"batch_size": -1}}, "training.batch_size is -1; it must be at least 0"),
    ({"training": {"warmup_steps": -1}}, "training.warmup_steps is -1; it must be at least 0"),
    ({"codebooks": {"ema_decay": 1.5}}, "codebooks.ema_decay is 1.5; it must be between 0 and 1"),
    ({"codebooks": {"restart_below": -1}}, "codebooks.restart_below is -1.0"),
    ({"codebooks": {"restart_until": NAN}}, "codebooks.restart_until is nan"),
    ({"training": {"autoencoder_share": 2}}, "training.autoencoder_share is 2.0"),
    ({"training": {"learning_rate": 0}}, "training.learning_rate is 0.0; it must be above 0"),
    ({"training": {"learning_rate": NAN}}, "training.learning_rate is nan"),
    ({"training": {"learning_rate": INF}}, "training.learning_rate is inf"),
    ({"training": {"grad_clip": 0}}, "training.grad_clip is 0.0; it must be above 0"),
    ({"training": {"grad_clip": NAN}}, "training.grad_clip is nan"),
    ({"training": {"weight_decay": -1}}, "training.weight_decay is -1.0; it must be at least 0"),
    ({"loss": {"commitment": -1}}, "loss.commitment is -1.0; it must be at least 0"),
    ({"loss": {"commitment": NAN}}, "loss.commitment is nan"),
    ({"model": {"dropout": 1}}, "model.dropout is 1.0; it must be at least 0 and below 1"),
    (
        {"model": {"encoder_dropout": -1}},
        "model.encoder_dropout is -1.0; it must be at least 0 and below 1",
    ),
    ({"codebooks": {"metric": "l1"}}, "codebooks.metric is 'l1'; it must be one of l2, cosine"),
    ({"kmeans": {"iterations": 0}}, "kmeans.iterations is 0; it must be at least 1"),
    ({"kmeans": {"max_rows": 0}}, "kmeans.max_rows is 0; it must be at least 1"),
    (
        {"levels": [300], "codebooks": {"init_rows": 299}},
        "codebooks.init_rows is 299, fewer than the 300 codewords of a level",
    ),
    (
        {"levels": [300], "quantizer": "rqkmeans", "kmeans": {"max_rows": 299}},
        "kmeans.max_rows is 299, fewer than the 300 codewords of a level",
    ),
]


@pytest.mark.parametrize(("settings", "message"), OUT_OF_RANGE, ids=str)
def test_values_out_of_range_name_the_value_and_the_range(settings: Any, message: str) -> None:
    with pytest.raises(SemidError) as error:
        parsed(settings)
    assert str(error.value).startswith(f"train.toml: {message}")


def test_ends_of_the_ranges() -> None:
    for share in (0, 1):
        names = ("ema_decay", "restart_below", "progressive", "prefix_share")
        parsed({"codebooks": dict.fromkeys(names, share)})
        parsed({"codebooks": {"restart_until": share}})
        parsed({"training": {"autoencoder_share": share}})
    zeros = {"batch_size": 0, "warmup_steps": 0, "weight_decay": 0}
    parsed({"holdout": 0, "seed": 2**31 - 1, "levels": [1], "training": zeros})
    parsed({"loss": {"commitment": 0}, "codebooks": {"balance": 0}})
    parsed({"model": {"hidden": []}, "memory_gib": 0})


# --set


def test_overrides_are_toml() -> None:
    settings = apply_overrides(
        {"seed": 1, "training": {"epochs": 5, "batch_size": 7}},
        ["training.epochs=50", "levels=[8, 4]", "model.latent_dim=3", "training.grad_clip=1e-1"],
    )
    assert settings == {
        "seed": 1,
        "training": {"epochs": 50, "batch_size": 7, "grad_clip": 0.1},
        "levels": [8, 4],
        "model": {"latent_dim": 3},
    }
    assert parsed(settings).levels == (8, 4)


def test_what_is_not_toml_is_text() -> None:
    overrides = ["quantizer=rqkmeans", "a=x = y", "b=", "c='quoted'", "d=true"]
    assert apply_overrides({}, overrides) == {
        "quantizer": "rqkmeans",
        "a": "x = y",
        "b": "",
        "c": "quoted",
        "d": True,
    }


def test_the_last_override_wins() -> None:
    assert apply_overrides({"seed": 0}, ["seed=1", "seed=2"]) == {"seed": 2}


def test_overrides_leave_the_settings_alone() -> None:
    settings: dict[str, Any] = {"a": {"b": {"c": 1}}, "seed": 1}
    before = copy.deepcopy(settings)
    assert apply_overrides(settings, ["a.b.c=2", "seed=2"]) == {"a": {"b": {"c": 2}}, "seed": 2}
    assert settings == before


@pytest.mark.parametrize("override", ["seed", "", "=5", " =5"])
def test_an_override_without_a_key_and_a_value(override: str) -> None:
    with pytest.raises(SemidError, match=r"expected key=value, such as training\.epochs=50"):
        apply_overrides({}, [override])


def test_an_override_through_something_else() -> None:
    with pytest.raises(SemidError, match=r"--set 'seed\.a=1': 'seed' is not a table of settings"):
        apply_overrides({"seed": 1}, ["seed.a=1"])


def test_an_override_nobody_knows() -> None:
    settings = apply_overrides({}, ["training.epoch=5"])
    with pytest.raises(SemidError, match=r"unknown setting 'training\.epoch'; the valid ones are"):
        parsed(settings)


# Files


def test_reading_toml(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text('# größer\nlevels = [8, 8]\n\n[training]\nepochs = 3\nx = "é"\n', "utf-8")
    assert read_toml(path) == {"levels": [8, 8], "training": {"epochs": 3, "x": "é"}}


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    with pytest.raises(SemidError, match=r"nowhere\.toml does not exist; check the path"):
        read_toml(tmp_path / "nowhere.toml")
    with pytest.raises(SemidError, match="cannot be read as a settings file"):
        read_toml(tmp_path)
    path = tmp_path / "train.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SemidError, match=r"train\.toml cannot be read as a settings file"):
        read_toml(path)
    with pytest.raises(SemidError, match="cannot be read as a settings file"):
        read_toml(path / "below-a-file.toml")
    path.write_text("levels = [8,\nseed = 1\n")
    with pytest.raises(SemidError, match=r"train\.toml is not valid TOML: .*line 2"):
        read_toml(path)


# Settings that do not apply


STRANGERS: list[tuple[dict[str, Any], str]] = [
    ({"quantizer": "rqkmeans", "training": {"epochs": 3}}, "training.epochs does not apply here: "),
    ({"quantizer": "rqkmeans", "codebooks": {"balance": 1}}, "codebooks.balance does not apply"),
    ({"kmeans": {"iterations": 3}}, "kmeans.iterations does not apply here: it needs quantizer rq"),
    ({"loss": {"kl": 1}}, "loss.kl does not apply here: it needs quantizer vae; leave it out"),
    ({"quantizer": "vae", "loss": {"commitment": 1}}, "loss.commitment does not apply"),
    ({"quantizer": "autoencoder", "codebooks": {"metric": "cosine"}}, "codebooks.metric does not"),
    ({"quantizer": "fsq", "codebooks": {"update": "gradient"}}, "codebooks.update does not apply"),
    ({"quantizer": "vqvae", "levels": [8], "codebooks": {"shared": True}}, "codebooks.shared does"),
    (
        {"codebooks": {"gumbel_end": 0.1}},
        "codebooks.gumbel_end does not apply here: it needs codeb",
    ),
    ({"codebooks": {"sinkhorn_epsilon": 1}}, "codebooks.sinkhorn_epsilon does not apply"),
    ({"codebooks": {"fsq_grid": [16, 16]}}, "codebooks.fsq_grid does not apply"),
    (
        {"codebooks": {"sinkhorn": "all", "estimator": "gumbel"}},
        "codebooks.sinkhorn does not apply here: it needs another codebooks.estimator than gumbel",
    ),
    (
        {"codebooks": {"locality": 0.2, "estimator": "gumbel"}},
        "codebooks.locality does not apply here: it needs another codebooks.estimator than gumbel",
    ),
    (
        {"levels": [8], "codebooks": {"locality": 0.2}},
        "codebooks.locality does not apply here: it needs several levels",
    ),
    (
        {"codebooks": {"separation": 0.2, "fsq": "last"}},
        "codebooks.separation does not apply here: it needs a last level with a codebook",
    ),
    (
        {"levels": [8], "codebooks": {"separation": 0.2}},
        "codebooks.separation does not apply here: it needs several levels",
    ),
    ({"quantizer": "fsq", "codebooks": {"locality": 0.2}}, "codebooks.locality does not apply"),
    (
        {"loss": {"codebook": 2}},
        "loss.codebook does not apply here: it needs codebooks.update grad",
    ),
    (
        {"quantizer": "vqvae", "levels": [8], "loss": {"codebook": 2}},
        "loss.codebook does not apply",
    ),
    ({"codebooks": {"fsq": "last", "sinkhorn": "last"}}, "codebooks.sinkhorn last does not apply"),
    ({"codebooks": {"restart_below": 0, "restart_until": 1}}, "codebooks.restart_until does not"),
    ({"model": {"skip": "identity", "latent_dim": 9}}, "model.latent_dim does not apply here: it"),
    (
        {"model": {"hidden": [], "activation": "gelu"}},
        "model.activation does not apply here: it ne",
    ),
    ({"quantizer": "vqvae"}, "a vqvae has one level, not [256, 256, 256]; give one, or use rqvae"),
    (
        {"levels": [8, 4], "codebooks": {"shared": True}},
        "levels are [8, 4], but one shared codebook",
    ),
]


@pytest.mark.parametrize(("settings", "message"), STRANGERS, ids=str)
def test_a_setting_that_does_not_apply_is_an_error(settings: Any, message: str) -> None:
    with pytest.raises(SemidError) as error:
        parsed(settings)
    assert str(error.value).startswith(f"train.toml: {message}")
