"""Records survive JSON exactly, and refuse what JSON cannot say."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.store.record import Code, Cost, Parameters, RunRecord, Stage

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
name = text.filter(bool)
finite = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 10**12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
means = st.dictionaries(st.sampled_from(["recall@10", "ndcg@10"]), finite)
by_mask = st.dictionaries(st.sampled_from(["none", "train"]), means, min_size=1)
seconds = st.none() | st.floats(0, 1e9)
records = st.builds(
    RunRecord,
    key=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    model=name,
    variant=text,
    dataset=name,
    protocol=name,
    preset=name,
    seed=st.integers(),
    settings=st.dictionaries(text, plain, max_size=4),
    results_version=count,
    split_fingerprint=name,
    mask=st.sampled_from(["none", "train"]),
    metrics=st.fixed_dictionaries({"test": by_mask}, optional={"valid": by_mask}),
    budget=st.dictionaries(text, plain, max_size=2),
    parameters=st.none() | st.builds(Parameters, total=count, trained=count),
    cost=st.builds(Cost, seconds_total=seconds, seconds_per_epoch=seconds, threads=st.none() | count),
    environment=st.dictionaries(text, plain, max_size=2),
    code=st.builds(Code, version=text, commit=st.none() | text, dirty=st.none() | st.booleans()),
    notes=st.lists(text, max_size=2),
    stages=st.lists(st.builds(Stage, model=name, key=text), max_size=2),
)


@settings(max_examples=80, deadline=None)
@given(records)
def test_json_gives_the_same_record_and_seal_back(record):
    again = RunRecord(**json.loads(json.dumps(record.plain())))
    assert again == record
    assert again.seal() == record.seal()


@settings(max_examples=40, deadline=None)
@given(records, st.floats(0, 1))
def test_another_number_gives_another_seal(record, value):
    mask = next(iter(record.metrics["test"]))
    test = record.metrics["test"] | {mask: {"recall@10": value}}
    changed = record.model_copy(update={"metrics": record.metrics | {"test": test}})
    assert (changed.seal() == record.seal()) == (json.dumps(changed.plain()) == json.dumps(record.plain()))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metrics": {"test": {"train": {"recall@10": float("nan")}}}}, "finite"),
        ({"metrics": {"test": {}}}, "metrics.test is empty"),
        ({"metrics": {"valid": {"train": {"recall@10": 0.1}}}}, "metrics.test is empty"),
        ({"metrics": {"test": {"seen": {"recall@10": 0.1}}}}, "match pattern"),
        ({"settings": {"tau": float("inf")}}, "Out of range float"),
        ({"settings": {"path": object()}}, "valid JSON"),
        ({"key": "../../escape"}, "match pattern"),
        ({"key": ""}, "match pattern"),
        ({"model": ""}, "at least 1 character"),
        ({"mask": "all"}, "match pattern"),
        ({"sede": 3}, "Did you mean 'seed'"),
    ],
)
def test_what_cannot_be_kept_is_refused(make_run, changes, told):
    record, _ = make_run()
    with pytest.raises((UserError, ValueError), match=told):
        RunRecord.read(record.plain() | changes)
