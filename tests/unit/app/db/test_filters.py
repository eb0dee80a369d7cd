"""The filter language: what holds, on both databases alike, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.db import collections, documents
from app.db.attributes import set_attributes
from app.db.filters import MAX_TERMS, FilterError, allowed_documents, compile_filter
from app.db.tables import DocumentRow
from tests.unit.app.db import naive_filters

NOW = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)


def keep(session, collection_id, document_id, document):
    """Write a document's row and attributes: what a filter looks at."""
    session.execute(
        insert(DocumentRow).values(
            id=document_id,
            collection_id=collection_id,
            content_hash="",
            n_bytes=0,
            created_at=document.get("created_at", NOW),
            updated_at=NOW,
            **{"status": "ready"} | {key: value for key, value in document.items() if key != "created_at"},
        )
    )
    set_attributes(session, document_id, document["meta"])


@pytest.fixture
def found(session):
    """Which of some documents a filter lets through, by position."""

    def found(filters, kept):
        collection_id = collections.create(session, "c").id
        for position, document in enumerate(kept):
            keep(session, collection_id, position, {"source": f"source {position}", **document})
        return allowed_documents(session, collection_id, filters).tolist()

    return found


METADATA = [
    {"year": 2020, "author": "Ada", "tags": ["x", "y"], "draft": True},
    {"year": 1999.5, "author": "Bob", "tags": ["y"], "draft": False, "nested": {"deep": {"er": 1}}},
    {"year": "2020", "author": "ÉMILE du Châtelet", "tags": []},
    {"flag": "true", "number": 1, "author": None},
    {"big": 12345678901234567890, "status": "draft", "pattern": "100%_\\"},
]


@pytest.mark.parametrize(
    ("filters", "positions"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"year": 2020}, [0]),
        ({"year": 2020.0}, [0]),
        ({"year": "2020"}, [2]),
        ({"year": {"$gt": 1999}}, [0, 1]),
        ({"year": {"$gt": 1999, "$lt": 2000}}, [1]),
        ({"year": {"$gte": "2"}}, [2]),
        ({"year": {"$ne": 2020}}, [1, 2, 3, 4]),
        ({"year": None}, [3, 4]),
        ({"year": {"$ne": None}}, [0, 1, 2]),
        ({"author": None}, [3, 4]),
        ({"tags": None}, [2, 3, 4]),
        ({"tags": "y"}, [0, 1]),
        ({"tags": {"$in": ["x", "z"]}}, [0]),
        ({"tags": {"$nin": ["x", "z"]}}, [1, 2, 3, 4]),
        ({"tags": {"$in": ["x", None]}}, [0, 2, 3, 4]),
        ({"tags": {"$in": []}}, []),
        ({"tags": {"$nin": []}}, [0, 1, 2, 3, 4]),
        ({"draft": True}, [0]),
        ({"draft": {"$ne": True}}, [1, 2, 3, 4]),
        ({"draft": "true"}, [0]),
        ({"draft": 1}, [0]),
        ({"flag": True}, []),
        ({"number": True}, []),
        ({"nested.deep.er": 1}, [1]),
        ({"nested": {"$ne": None}}, []),
        ({"big": 12345678901234567890}, [4]),
        ({"big": 12345678901234567891}, []),
        ({"author": {"$like": "émile%"}}, [2]),
        ({"author": {"$like": "A_A"}}, [0]),
        ({"author": {"$like": "%"}}, [0, 1, 2]),
        ({"pattern": {"$like": "100\\%\\_\\\\"}}, [4]),
        ({"pattern": {"$like": "100\\%x%"}}, []),
        ({"$or": [{"year": 2020}, {"author": "Bob"}]}, [0, 1]),
        ({"$and": [{"year": 2020}, {"author": "Bob"}]}, []),
        ({"$not": {"year": 2020, "author": "Ada"}}, [1, 2, 3, 4]),
        ({"$not": {"$not": {"year": 2020}}}, [0]),
        ({"$not": {}}, []),
        ({"year": 2020, "$or": [{"author": "Ada"}, {"author": "Bob"}]}, [0]),
        ({"status": "ready"}, [0, 1, 2, 3, 4]),
        ({"metadata.status": "draft"}, [4]),
        ({"title": None}, [0, 1, 2, 3, 4]),
        ({"source": {"$like": "SOURCE _"}}, [0, 1, 2, 3, 4]),
        ({"source": {"$in": ["source 1", "source 3"]}}, [1, 3]),
        ({"source": {"$gt": "source 2"}}, [3, 4]),
        ({"no such field": {"$gt": 1}}, []),
    ],
    ids=str,
)
def test_what_a_filter_lets_through(found, filters, positions):
    assert found(filters, [{"meta": meta} for meta in METADATA]) == positions


@pytest.mark.parametrize(
    ("operand", "positions"),
    [
        ({"$gte": "2024-05-01"}, [1, 2]),
        ({"$gt": "2024-05-01T00:00:00Z"}, [1, 2]),
        ({"$lt": "2024-05-01T02:00:00+02:00"}, [0]),
        ({"$eq": "2024-05-01T12:00:00"}, [1]),
        ({"$ne": "2024-05-01T12:00:00"}, [0, 2]),
        ({"$in": ["2024-04-30", "2024-05-02T00:00:00.000001Z"]}, [0, 2]),
        (None, []),
    ],
    ids=str,
)
def test_dates_are_compared_as_instants(found, operand, positions):
    instants = [
        datetime(2024, 4, 30, tzinfo=UTC),
        datetime(2024, 5, 1, 12, tzinfo=UTC),
        datetime(2024, 5, 2, 0, 0, 0, 1, tzinfo=UTC),
    ]
    kept = [{"meta": {}, "created_at": instant} for instant in instants]
    assert found({"created_at": operand}, kept) == positions


def test_other_collections_are_left_out(session):
    for name in ("one", "two"):
        collection = collections.create(session, name)
        documents.upsert_pending(
            session, collection=collection, source="s", content_hash="a" * 64, n_bytes=1, meta={"x": 1}
        )
    found = allowed_documents(session, collections.id_of("one"), {"x": 1})
    assert found.tolist() == [documents.id_of("one", "s")]


def nested(depth):
    """A filter under so many `$not`."""
    return {"$not": nested(depth - 1)} if depth else {"a": 1}


class TestRefused:
    @pytest.mark.parametrize(
        ("filters", "path"),
        [
            ([], ""),
            ("a", ""),
            ({1: 2}, ""),
            ({"$nor": [{"a": 1}]}, "$nor"),
            ({"$eq": 1}, "$eq"),
            ({"a": {"$regex": "x"}}, "a"),
            ({"a": {"b": 1}}, "a"),
            ({"a": {}}, "a"),
            ({"a": [1]}, "a.$eq"),
            ({"a": {"$eq": {"b": 1}}}, "a.$eq"),
            ({"a": {"$in": "x"}}, "a.$in"),
            ({"a": {"$in": [[1]]}}, "a.$in"),
            ({"a": {"$gt": None}}, "a.$gt"),
            ({"a": {"$gt": True}}, "a.$gt"),
            ({"a": {"$gt": [1]}}, "a.$gt"),
            ({"a": {"$lt": 2**60}}, "a.$lt"),
            ({"a": float("nan")}, "a.$eq"),
            ({"a": {"$like": 1}}, "a.$like"),
            ({"a": {"$like": "x\\"}}, "a.$like"),
            ({"a": {"$like": "x" * 1001}}, "a.$like"),
            ({"a": "\0"}, "a.$eq"),
            ({"title": 1}, "title.$eq"),
            ({"title": {"$gt": None}}, "title.$gt"),
            ({"title": "\ud800"}, "title.$eq"),
            ({"created_at": "yesterday"}, "created_at.$eq"),
            ({"created_at": 2024}, "created_at.$eq"),
            ({"created_at": {"$like": "2024%"}}, "created_at.$like"),
            ({"created_at": {"$gt": "0001-01-01T00:00:00+23:00"}}, "created_at.$gt"),
            ({"": 1}, ""),
            ({"metadata.": 1}, "metadata."),
            ({"x\0": 1}, "x\0"),
            ({"x" * 600: 1}, "x" * 600),
            ({"$and": []}, "$and"),
            ({"$or": {"a": 1}}, "$or"),
            ({"$not": [{"a": 1}]}, "$not"),
            ({"$and": [{"a": 1}, {"$or": [{"b": {"$foo": 1}}]}]}, "$and[1].$or[0].b"),
            (nested(17), ".".join(["$not"] * 17)),
            ({"$or": [{"a": 1}] * (MAX_TERMS + 1)}, f"$or[{MAX_TERMS}].a.$eq"),
            ({"a": {"$in": list(range(1001))}}, "a.$in"),
        ],
        ids=lambda value: str(value)[:40].replace("\0", "NUL").replace("\ud800", "HALF"),
    )
    def test_with_the_place_in_the_error(self, filters, path):
        with pytest.raises(FilterError) as caught:
            compile_filter(filters)
        assert caught.value.path == path
        assert caught.value.detail

    def test_the_limits_themselves_are_allowed(self, found):
        wide = {"$and": [nested(15)] + [{"a": 1}] * 198 + [{"a": {"$in": list(range(801))}}]}
        assert found(wide, [{"meta": {"a": 1}}]) == []
        compile_filter(nested(16))


TEXTS = st.text(alphabet="aAbBéÉßÑ%_\\ \n0", max_size=4)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.floats(-2, 2, width=32),
    st.sampled_from([2**53, -(2**53), 2**53 + 1, 2**70, 0.1, -0.0]),
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
FIELDS = st.sampled_from(["a", "b", "n.x", "title", "metadata.title", "filename"])
METADATAS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(SCALARS, st.lists(SCALARS, max_size=3)),
        "b": SCALARS,
        "n": st.fixed_dictionaries({"x": st.one_of(SCALARS, st.lists(SCALARS, max_size=2))}),
        "title": SCALARS,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"meta": METADATAS, "title": st.one_of(st.none(), TEXTS), "filename": st.one_of(st.none(), TEXTS)}
)


@st.composite
def terms(draw):
    field = draw(FIELDS)
    is_column = field in naive_filters.COLUMNS
    scalars = st.one_of(TEXTS, st.none()) if is_column else SCALARS
    ordered = TEXTS if is_column else st.one_of(TEXTS, NUMBERS.filter(lambda value: abs(value) <= 2**53))
    operand = st.one_of(
        scalars,
        st.fixed_dictionaries({"$eq": scalars}),
        st.fixed_dictionaries({"$ne": scalars}),
        st.fixed_dictionaries({"$in": st.lists(scalars, max_size=3)}),
        st.fixed_dictionaries({"$nin": st.lists(scalars, max_size=3)}),
        st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered, min_size=1, max_size=2),
        st.fixed_dictionaries(
            {"$like": TEXTS.filter(lambda text: (len(text) - len(text.rstrip("\\"))) % 2 == 0)}
        ),
    )
    return {field: draw(operand)}


FILTERS = st.recursive(
    terms(),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
    ),
    max_leaves=6,
)


def test_agrees_with_plain_loops(database, engine):
    n_examples = 120 if database == "sqlite" else 40

    @settings(
        max_examples=n_examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(
        kept=st.lists(DOCUMENTS, min_size=1, max_size=6), filters=st.lists(FILTERS, min_size=1, max_size=4)
    )
    def agree(kept, filters):
        with Session(engine) as session:
            collection_id = collections.create(session, "c").id
            full = [{"source": str(position), **document} for position, document in enumerate(kept)]
            for position, document in enumerate(full):
                keep(session, collection_id, position, document)
            for one in filters:
                expected = [
                    position
                    for position, document in enumerate(full)
                    if naive_filters.holds(one, {"media_type": None, "status": "ready", **document})
                ]
                assert allowed_documents(session, collection_id, one).tolist() == expected, one

    agree()
