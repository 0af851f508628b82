"""Guessing modalities from names."""

import pytest

from DanteSegmenterLib.cases.modality_guess import assign, guess_modality

MR = ("t1", "t1ce", "t2", "flair")

NAMES = {
    "t1": [
        "t1", "T1", "t1n", "t1_mpr", "T1w", "T1-weighted", "MPRAGE", "sub-01_T1w.nii.gz", "5: AX T1 MPRAGE",
        "AX T1 PRE", "BraTS20_Training_001_t1", "BraTS-GLI-00002-000-t1n.nii.gz", "t1 without contrast", "T1 w/o",
        "SAG T1 FLAIR", "axT1", "t1mprage3D",
    ],
    "t1ce": [
        "t1ce", "t1c", "t1gd", "t1post", "T1 +C", "Gd", "T1_Gd", "AX T1 POST GAD", "T1 MPRAGE post contrast", "t1 C+",
        "BraTS20_Training_001_t1ce", "BraTS-GLI-00002-000-t1c", "T1 km", "DanteBrainMR t1ce", "T1 Gadovist",
        "MPRAGE +C",
    ],
    "t2": ["t2", "T2w", "t2_tse", "AX T2 FSE", "BraTS19_2013_2_1_t2.nii", "BraTS-GLI-00002-000-t2w", "7: T2 TRA"],
    "flair": ["flair", "FLAIR", "t2f", "fla", "SAG FLAIR", "T2_FLAIR", "AX T2 FLAIR FS", "BraTS-GLI-00002-000-t2f",
              "t2flair", "3D_FLAIR_SPACE"],
    "nct": ["nct", "NCCT", "CT without contrast", "ct native", "CT chest non-contrast", "CT w/o contrast"],
    "ctpa": ["ctpa", "CTA", "CT pulmonary angiography", "CT chest +C", "ct contrast", "CT ANGIO THORAX"],
    None: [
        "", "volume", "MRHead", "AX DWI", "ADC map", "T2*", "t2 star", "SWI", "t1 map", "BraTS20_Training_001_seg",
        "T12 spine", "CT chest", "post", "contrast", "t1 t2 ratio", "PERF T2", "localizer", "best1", "T1 SUBTRACTION",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("expected", "name"), [(key, name) for key, names in NAMES.items() for name in names])
def test_modality_is_inferred_from_the_name_or_left_open(expected, name):
    assert guess_modality(name) == expected


# Of scanners, hospitals and data sets, in common languages; separated by "|".
SPOKEN = {
    "t1ce": (
        "T1KM|T1+C|T1_CE|T1w-post|T1 Gd|T1GAD|MPRAGE KM|t1 nach KM|T1 con contraste|T1 mdc|t1 met contrast|"
        "T1 Dotarem|AX T1 POST NON FS|AX T1 non fat sat post gad|ax t1 postgad|T1_PostGd|T1 avec injection|"
        "sub-01_ses-01_ce-gadolinium_T1w.nii.gz|t1c|T1Gd|T1GD|T1c|t1_mprage_sag_p2_iso_km|T1 post contrast|"
        "t1-ce|T1-C|T1 c+|T1C+|+C T1|T1 +Gd|T1+GAD|T1 i.v. KM|T1 K.M.|T1 m.d.c.|T1 dopo mdc|T1 con mdc|"
        "T1 com contraste|T1 apres gadolinium|T1 après injection|T1 injectée|T1 mit KM|T1 nach Kontrastmittel|"
        "T1 po kontraście|T1 z kontrastem|T1 efter kontrast|T1 med kontrast|T1 enhanced|contrast-enhanced T1|"
        "T1 contrast enhanced|T1CEMPRAGE|postT1|CT1|gdT1|T1w_Gd|T1wPost|t1_vibe_tra_KM_fs|T1 SE post|"
        "T1_3D_TFE_GD|sT1W_3D_FFE_GD|Ax T1 FSPGR +C|3D BRAVO +C|T1 Gd-DTPA|T1 ProHance|T1 Gadavist|"
        "T1 MultiHance|T1 w/ contrast|T1 w contrast|T1 with gad|T1 C/C|T1 造影|T1 增强|FSPGR post|T1 W+C|"
        "t1 post-contrast fs|postcontrast T1|T1_postContrast|acq-postGd_T1w|T1 km iv|T1 na contrast|"
        "T1 c/ contraste|T1 SE TRA KM|AX T1 POST W/O FS|T1 poscontraste|T1 inj|T1 POST FAT SAT|T1 gadolinio|"
        "COR T1 POST|T1w_CE|t1_post|Ax T1 Post Gad MPR|preop T1 post gad|T1 contrasté|T1 POSTCON|T1 postGd|"
        "T1_C|t1-gd-fs|T1 GD FS|T1_gadovist|T1 POST CONTRAST NO FS|T1 w/o FS +C|T1 m.KM|T1 mKM|T1 +KM|T1 KM+|"
        "T1 contrastado|T1 CON GADOLINIO|T1 POST GADO|T1 pós contraste|T1 c/ gad|T1 post-Gd MPRAGE|"
        "T1 POST GD 5 MIN|T1 delayed post|T1 (post)|T1 - post|T1 [KM]|T1 nach Gd|CE T1|CET1|T1wGd|T1post|"
        "T1 PostC|T1postC|POST T1|postcontrastT1|T1CE_fs|T1_TSE_TRA_GD_FS|t1_mpr_post_gad|T1 SE postKM|"
        "T1_KM_1mm|t1_mprage_KM_iso1mm|T1 mpr GAD 0.1mmol|AX T1 SE POST|AX T1 FS C+|+C Ax T1|AX T1 W GAD|"
        "AX T1 W/GAD|Sag T1 +Gd|T1 POST-GADOLINIUM|t1ce_brain|T1CE|T1-CE|T1_MPRAGE_POST|3DT1GD|T1W_POST|"
        "T1 dopo contrasto|T1 con mezzo di contrasto|T1 avec produit de contraste|T1 IV contrast|"
        "T1 mit Kontrast|T1 fs km|MP2RAGE Gd"
    ),
    "t1": (
        "T1 prä KM|T1 prae KM|T1 pre contrast|T1 precontrast|T1 native|T1 nativ|T1 sans injection|"
        "T1 senza mdc|T1 zonder contrast|T1 C-|t1 vor KM|T1 sag ohne KM|T1 s/c|T1 non contrast|T1 noncontrast|"
        "T1 non-contrast|T1 no contrast|T1 no gad|T1 w/o|T1 w/o contrast|T1 w/o Gd|T1 wo KM|"
        "T1 without contrast|T1 sin contraste|T1 sem contraste|T1 utan kontrast|T1 uden kontrast|"
        "T1 uten kontrast|T1 bez kontrastu|T1 avant injection|T1 prima di mdc|T1 antes contraste|T1_pre|T1PRE|"
        "preT1|T1w_preGd|T1 KM-|T1 Gd-|T1 KM neg|T1 ohne i.v. KM|T1 sans produit de contraste|"
        "T1 senza mezzo di contrasto|T1 s/ contraste|T1 ohne Kontrastmittel|T1 unenhanced|T1 plain|t1_nativ|"
        "T1 kein KM|T1 non enhanced|T1 postop|T1 post op|T1 post-operative|T1 post treatment|"
        "t1_tirm_tra_dark-fluid|T1 FLAIR|T1 non FS|T1 blanco|T1 平扫|sT1W_3D_TFE|T1w|t1n|MPRAGE|"
        "t1_mprage_sag_p2_iso|t1_fl2d_tra|T1 SE sag|3D T1 TFE|axT1|T1W/TSE|T1_BRAVO|UCSF-PDGM-0004_T1|"
        "T1 preop|T1 sine KM|T1 Pre-Gd|T1 pre-Gad|T1 before Gd|T1 without Gd|T1 nonCE|non-ce T1|T1 noncont|"
        "T1 NC|T1 nonenh|T1wo|T1woKM|T1ohneKM|t1 o.KM|T1 oKM|T1 SIN GADOLINIO|T1 sem gd|T1 pre contraste|"
        "T1 s/ gad|T1 prekontrast|T1_preC|T1 preC|T1nc|T1 unenh|T1_nonContrast|T1 AX W/O|T1 W/O GAD|"
        "T1 PRE GAD|T1_PRE_CONTRAST|AX T1 NON CON|AX T1 NONCON|T1 pre KM|T1 nicht KM|T1_MPRAGE_PRE|"
        "T1 no contrast, fs|T1 (ohne KM)|T1 senza contrasto|T1 non potenziato|T1 without i.v. contrast|"
        "T1w pre-contrast|nativ T1|T1 nativ tra"
    ),
    "flair": (
        "t2_tirm_tra_dark-fluid_4mm|TIRM|dark fluid|T2 dark fluid|t2_space_dark-fluid_sag_p2_iso|"
        "t2_spc_da-fl_sag|FLAIR post|FLAIR KM|T2FLAIR|t2f|3D FLAIR|FLAIR_bias|tirm_tra_dark-fluid|"
        "T2 darkFluid|sT2W_FLAIR|Sag 3D FLAIR CUBE|t2_tirm_cor|t2-flair|fla|Dark_Fluid|t2_spc_dark-fl|"
        "T2W_FLAIR|AX FLAIR+C|FLAIR_SPACE|T2 TIRM dark fluid|da_fl|t2_flair_fs_post|FLAIR Gd|3DFLAIR|"
        "CUBE FLAIR|T2 Flair_Propeller|t2w_flair|FLAIR_brain|FLAIR3D"
    ),
    "t2": (
        "T2 FS|T2 post|t2_blade_tra|AX T2 PROPELLER|T2W_TSE|sub-01_T2w|t2tse|T2 SPACE|UPENN-GBM-00001_11_T2|"
        "T2 SPAIR|T2 km|T2_TSE_TRA_fs|T2WI|T2W_DRIVE|t2_tse_dixon_W|T2 FRFSE|AX T2 FRFSE|T2 3D|T2 haste|"
        "t2_haste"
    ),
    "nct": (
        "CT nativ|CT ohne KM|CT senza mdc|TC sin contraste|CT plain|NECT|CT sans injection|CT w/o|"
        "TC senza mdc|CT-nativ|CT zonder contrast"
    ),
    "ctpa": (
        "CT mit KM|TC con contraste|CTPA|CT angio|CT with contrast|CECT|CT nach KM|TDM avec injection"
    ),
    None: (
        "AX T1 PRE AND POST|T1 WITH AND WITHOUT CONTRAST|T1rho|PD_T2|pd+t2_tse_tra|ep2d_diff_T2|t2_fl2d_hemo|"
        "STIR|SWI|DWI|ADC|PD|localizer|T1 +/- C|T1 mit und ohne KM|T1 w/wo contrast|T1 w/ & w/o|"
        "T1 con e senza mdc|T1 pre/post|T1 pre-post contrast|T2 STIR|T2 star|t2*|T2 FFE|T1 map|T1map|t2map|"
        "T2 IR|loc|scout|3-plane localizer|survey|T1 - KM|T1+|T1 C spine|besT1|T12|T1 and T2|Ktrans|rCBV|"
        "B0 map|T1 sub|T1 without and with contrast|T1 avec et sans injection|T1 ohne und mit KM|"
        "T1 native und KM|CT|CT with and without contrast|T1 seg|T1 mask|T2star|T2_GRE|t1 mapping|"
        "dual echo T2|proton density T2|T1 C-/C+|dynamic T1|AAHead_Scout|CISS|T1_MOLLI|T2 ratio|T1w/T2w|"
        "T1 -KM|T1 w and w/o|T1 pre post|T1 PRE+POST|T1 pre & post gad|T1 nativ/KM|DIXON_fat|T1 KM/nativ|"
        "T1 before and after Gd|T1 vor und nach KM|T1 avant et après injection|T1 prima e dopo mdc|"
        "T1 antes y después de contraste|T1 voor en na contrast|T1 gd pre"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "name"), [(key, name) for key, text in SPOKEN.items() for name in text.split("|")]
)
def test_contrast_and_its_negation_are_recognised_in_many_spellings(expected, name):
    assert guess_modality(name) == expected


# Marks that identify, or may identify, a contrast T1: such a volume is never a native T1.
MARKED = {
    "t1ce": (
        "T1 +K|T1+K|T1 + K|T1_+K|T1 K+|T1K+|T1 tra K+ fs|T1 tra +K fs|MPRAGE +K|T1 +CM|T1_+CM|T1+CM|T1 CM|T1CM|T1_CM|"
        "T1 CM+|T1 mit CM|T1mitCM|T1 nach CM|T1 post CM|T1 with CM|T1 sag + CM|+CM T1|mit CM T1|T1 w contr|T1_contr|"
        "T1 contr.|T1 kontr|T1 kontr.|T1 mit Kontr.|T1 + Kontr|T1 nach Kontrastmittelgabe|T1 MPR +C|T1 FS KM+|"
        "AX T1 W CON|AX T1 W/CON|AX T1 +CON|AX T1 POST CON|T1 plus Gd|T1 SE + FS + KM|T1 Gd + FS|T1 mit Gadodiamid|"
        "T1 Gadobenate|T1 post Optimark|T1 nach Primovist|T1 avec CM|T1 con CM|se tra +K T1|5: +K T1"
    ),
    "t1": (
        "T1 K-|T1K-|T1 CM-|T1 ohne CM|T1 vor CM|T1 w/o contr|T1 noncontr|T1 non contr|T1 without CM|T1 sans CM|"
        "AX T1 WO CON|AX T1 NON CON FS|T1 NO CON|T1 PRE CON|T1 SE + FatSat|T1 SE + fat sat|T1+FS|T1 +MPR|T1 tra + cor|"
        "T1 sag+cor|T1_MPRAGE_1+2|T1 FOV 24cm|T1 1.5cm|Anna+Meier_T1|A+_T1|CM_01_T1|CM_T1w|Kontrolle T1|T1 Kontrolle|"
        "T1 control|T1_controls|T1 kontrola|T1 contralateral|T1 with fat sat|T1 w FS|T1 W 3D TSE|T1-W|T1-W Meier|"
        "t1_vibe_dixon_tra_W|t1_vibe_dixon_W_tra|t1_vibe_dixon_w_nd|T1_mDIXON_W_XD|T1 mit FS|T1 after surgery|"
        "T1 nach OP|T1 nach Bestrahlung|T1 nach Resektion|T1 after RT|T1 post Bestrahlung|T1 with skull|T1 W 1mm|"
        "sub-K01_T1w|T1 apres chirurgie|T1_brain_after_N4"
    ),
    None: (
        "T1 +|T1+|T1 (+)|T1 ++|T1 MPR +|T1 FS +|MPRAGE+|T1 FS+ tra|T1+ FS|T1 +X|T1 +E|T1+_K|T1 + Mittel|T1 + tra|"
        "T1 FS + cor|T1 + 5 min|T1+ FLAIR|T1 -K|T1 - CM|T1 K-/K+|T1 mit X|T1 with agent2|T1 w Mueller|T1 nach|"
        "T1 nach 5 min|T1 after Xyz|T1 con|T1 mit|T1 PC|t1_tse_tra_fs_pc|T1 tra K|T1 5 cm|T1 K+/-|T1 ohne und mit CM|"
        "T1 + КУ|T1 avec X|T1 apres|T1 CM frei + CM"
    ),
    "flair": "FLAIR +|FLAIR +K|FLAIR nach X|FLAIR + CM|T2 FLAIR +X",
    "t2": "T2 +|T2 +K|T2 mit X|T2 tra CM",
    "ctpa": "CT mit CM|CT +K|CT CM|CT Thorax +CM",
    "nct": "CT ohne CM|CT K-|CT nativ + Lunge",
}  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "name"), [(key, name) for key, text in MARKED.items() for name in text.split("|")]
)
def test_possible_contrast_mark_is_never_taken_for_native_t1(expected, name):
    assert guess_modality(name) == expected


def test_bids_subject_named_like_contrast_is_not_contrast():
    assert guess_modality("sub-CE01_T1w") == "t1" and guess_modality("sub-01_ses-post_T1w") == "t1"


def test_contrast_t1_does_not_fill_the_native_t1_box():
    names = ["t1_tse_tra KM", "t2_tse_tra", "t2_tirm_tra_dark-fluid"]
    assert assign(names, ("t1", "t2", "flair")) == {"t1": None, "t2": 1, "flair": 2}


def test_contrast_mark_is_not_part_of_the_patient_name():
    names = ["anna_T1", "anna_T1 +K", "anna_T2", "berta_T1", "berta_T1 +K"]
    assert assign(names, ("t1", "t1ce", "t2")) == {"t1": 0, "t1ce": 1, "t2": 2}


def test_whole_study_is_assigned_with_each_volume_used_once():
    names = ["SAG FLAIR", "localizer", "5: AX T1 POST GAD", "AX T2", "3: AX T1"]
    assert assign(names, MR) == {"t1": 4, "t1ce": 2, "t2": 3, "flair": 0}
    assert assign(["t1", "t2"], MR) == {"t1": 0, "t1ce": None, "t2": 1, "flair": None}
    assert assign([], MR) == dict.fromkeys(MR)


def test_only_requested_modalities_are_assigned():
    assert assign(["t1", "t1ce", "t2", "flair"], ("t1", "flair")) == {"t1": 0, "flair": 3}


def test_two_equally_good_volumes_leave_the_choice_open():
    assert assign(["t1 a", "t1 b", "t2"], ("t1", "t2")) == {"t1": None, "t2": 2}


def test_patient_with_more_matching_volumes_wins():
    names = ["patient_7_t1", "patient_9_t1", "patient_9_t2", "patient_9_flair"]
    assert assign(names, MR) == {"t1": 1, "t1ce": None, "t2": 2, "flair": 3}


def test_two_complete_patients_leave_everything_open():
    names = [f"{patient}_{modality}" for patient in ("a", "b") for modality in MR]
    assert assign(names, MR) == dict.fromkeys(MR)


def test_chest_ct_pairs_are_assigned():
    assert assign(["case3_ctpa", "case3_nct"], ("nct", "ctpa")) == {"nct": 1, "ctpa": 0}
