"""What a build is made with: the settings, and over them what was ordered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db.errors import InvalidText
from app.errors import InvalidRequest
from app.services import Services
from app.settings import ChunkerSettings, EncoderSettings
from app.upkeep import orders
from app.upkeep.orders import BuildOrder
from tests.service import settings_for


def test_an_empty_order_is_the_settings(services: Services) -> None:
    encoder, chunker = BuildOrder().specs(services)
    assert (encoder, chunker) == (services.encoder_spec(), services.chunker_spec())


def test_what_is_ordered_wins_over_the_settings(services: Services) -> None:
    order = BuildOrder(
        settings={"encoder.dim": "32", "chunker.max_tokens": 64, "chunker.overlap_tokens": "0"}
    )
    encoder, chunker = order.specs(services)
    assert (encoder.dim, chunker.max_tokens, chunker.overlap_tokens) == (32, 64, 0)


def test_another_model_begins_with_its_own_defaults_and_the_same_keeps_what_is_set(tmp_path) -> None:
    settings = settings_for(tmp_path, "", encoder=EncoderSettings(model="default", dim=99))
    assert BuildOrder(encoder="other").areas(settings)[0] == EncoderSettings(model="other")
    assert BuildOrder(encoder="default").areas(settings)[0].dim == 99
    assert BuildOrder(settings={"encoder.dim": ""}).areas(settings)[0].dim is None


@pytest.mark.parametrize(
    ("order", "sizes"),
    [
        (BuildOrder(chunker="fine"), (128, 16)),
        (BuildOrder(chunker="coarse"), (256, 64)),
        (BuildOrder(chunker="default"), (256, 32)),
        (
            BuildOrder(chunker="fine", settings={"chunker.max_tokens": 40, "chunker.overlap_tokens": 4}),
            (40, 4),
        ),
    ],
    ids=["fine", "coarse, within the window", "default", "a size of its own"],
)
def test_presets_are_sizes(home, services: Services, order: BuildOrder, sizes: tuple[int, int]) -> None:
    services.settings = services.settings.model_copy(update={"chunker": ChunkerSettings(max_tokens=99)})
    _, chunker = order.specs(services)
    assert (chunker.max_tokens, chunker.overlap_tokens) == sizes


def test_an_unknown_key_is_told_what_is_known(services: Services) -> None:
    with pytest.raises(InvalidRequest, match=r"encoder\.model, .*chunker\.overlap_tokens") as error:
        orders.checked(services.settings, BuildOrder(settings={"encoder.sise": 1}))
    assert error.value.code == "unknown_setting"


def test_whether_token_vectors_are_kept_can_be_ordered(services: Services) -> None:
    assert BuildOrder().keeps_tokens(services.settings)
    for ordered, kept in ((True, True), (False, False), ("false", False)):
        order = orders.checked(services.settings, BuildOrder(settings={"encoder.keep_tokens": ordered}))
        assert order.keeps_tokens(services.settings) == kept


@pytest.mark.parametrize(
    "settings",
    [{"encoder.dim": "many"}, {"chunker.max_tokens": 3}, {"encoder.precision": "int4"}, {"encoder.dim": 1.5}],
    ids=str,
)
def test_a_wrong_value_is_named(services: Services, settings: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as error:
        orders.checked(services.settings, BuildOrder(settings=settings))
    assert error.value.code == "invalid_setting"
    assert next(iter(settings)).partition(".")[2] in error.value.detail


def test_chunks_beyond_the_window_are_refused(services: Services) -> None:
    with pytest.raises(InvalidRequest) as error:
        BuildOrder(settings={"chunker.max_tokens": 5000}).specs(services)
    assert error.value.code == "chunk_too_long"


def test_what_no_database_keeps_is_refused(services: Services) -> None:
    with pytest.raises(InvalidText):
        orders.checked(services.settings, BuildOrder(encoder="a\x00b"))


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


@given(
    st.builds(
        BuildOrder,
        encoder=st.none() | st.text(max_size=5),
        chunker=st.sampled_from([None, *orders.PRESETS]),
        settings=st.dictionaries(st.sampled_from(orders.keys()), VALUES, max_size=3),
        activate=st.booleans(),
        force=st.booleans(),
    )
)
def test_an_order_survives_the_payload_of_a_job(order: BuildOrder) -> None:
    again = BuildOrder.of(json.loads(json.dumps(order.payload())))
    assert again == order
    assert again.key == order.key


def test_jobs_of_before_are_understood() -> None:
    assert BuildOrder.of({"activate": False}) == BuildOrder(activate=False)
