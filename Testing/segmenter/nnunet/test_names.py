import pytest

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.nnunet.names import modalities_of, regions_of

BRATS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}


def channels(*names):
    return {"channel_names": {str(n): name for n, name in enumerate(names)}}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("T1", "T1ce", "T2", "FLAIR"), ["t1", "t1ce", "t2", "flair"]),
        (("t1n", "t1c", "t2w", "t2f"), ["t1", "t1ce", "t2", "flair"]),
        (("CT",), ["CT"]),  # without or with contrast: unknown
        (("noNorm", "zscore"), ["noNorm", "zscore"]),
        (("zscore", "zscore"), ["zscore 0", "zscore 1"]),
        (("T1", "T1w"), ["T1", "T1w"]),  # both would be t1
        (("PET (SUV)", "«MR»"), ["PET _SUV_", "_MR_"]),
    ],
)
def test_channels_become_modalities_if_names_match(names, ids):
    assert [modality.id for modality in modalities_of(channels(*names), {}, "dataset.json")] == ids


def test_older_datasets_call_channels_modality():
    (found,) = modalities_of({"modality": {"0": "CT"}}, {}, "dataset.json")
    assert (found.id, found.label) == ("CT", "CT")


def test_user_choice_for_a_channel_takes_precedence():
    found = modalities_of(channels("MRI", "MRI"), {0: "t1", 1: "adc"}, "dataset.json")
    assert [(modality.id, modality.label) for modality in found] == [("t1", "T1"), ("adc", "adc")]


def test_regions_keep_order_labels_and_values():
    output, regions = regions_of({"labels": BRATS, "regions_class_order": [1, 2, 3]}, {}, "dataset.json")
    assert output == "regions"
    assert [(r.id, r.labels, r.label_value) for r in regions] == [
        ("WT", (1, 2, 3), 1),
        ("TC", (2, 3), 2),
        ("ET", (3,), 3),
    ]
    assert all(region.terminology.anatomy.meaning == "Brain" for region in regions)


def test_labels_use_softmax_and_the_ignore_label_is_no_output():
    labels = {"background": 0, "liver": 1, "liver_tumor": 2, "ignore": 3}
    output, regions = regions_of({"labels": labels}, {"1": "Hepar"}, "dataset.json")
    assert output == "labels" and [(r.name, r.label_value) for r in regions] == [("Hepar", 1), ("Liver tumor", 2)]
    assert regions[1].terminology.type.meaning == "Neoplasm"
    assert regions_of({"labels": labels}, {"liver": "Liver"}, "")[1][0].terminology.type.meaning == "Liver"


def test_single_label_region_is_allowed_beside_larger_ones_and_background_may_be_ignored():
    labels = {"background": 0, "all": [1, 2], "part": 2, "ignore": 3}
    output, regions = regions_of({"labels": labels, "regions_class_order": [1, 2]}, {"2": "Core"}, "")
    assert output == "regions" and [(r.name, r.labels) for r in regions] == [("All", (1, 2)), ("Core", (2,))]


def test_unknown_names_become_tissue_in_distinct_colours():
    labels = {"background": 0, **{f"structure_{n}": n for n in range(1, 41)}}
    _, regions = regions_of({"labels": labels}, {}, "dataset.json")
    assert {region.terminology.type.meaning for region in regions} == {"Tissue"}
    assert len({region.color for region in regions}) == 40 == len({region.id for region in regions})


@pytest.mark.parametrize(
    "labels",
    [{"0": "background", "1": "liver"}, {"background": 0, "x": "1"}, {"background": 0, "x": []}, ["a"], None]
    + [{"background": 0, "x": True}, {"background": 0, "b": 2, "a": 1}, {"background": 0, "x": -1}],
)
def test_unintelligible_labels_are_refused(labels):
    with pytest.raises(ModelError, match=r"^dataset.json: "):
        regions_of({"labels": labels}, {}, "dataset.json")
