"""Words by which people and scanners name brain MR and chest CT, for GUI, case folders and datasets.

Lower case, without accents; English, German, French, Spanish, Italian, Portuguese, Dutch, Scandinavian, Polish and
Czech together. They are interpreted by `modality_guess`.
"""

from __future__ import annotations

# Contrast agents. One of them is conclusive: nothing else in a brain study has such a name.
GADOLINIUM = {
    "gd", "gad", "gado", "gadolinium", "gadolinio", "gadolin", "gadovist", "gadavist", "gadobutrol", "gadoterate",
    "gadoter", "gadoteridol", "gadopentetate", "dotarem", "clariscan", "magnevist", "prohance", "omniscan",
    "multihance", "vueway", "elucirem", "optimark", "primovist", "eovist", "vasovist", "ablavar", "dotagraf",
    "dtpa", "gddtpa",
}  # fmt: skip
# Words that say, unless negated, that contrast was given.
CONTRAST = {
    "ce", "c", "km", "mkm", "contr", "kontr",
    "contrast", "contraste", "contrasto", "contrasts", "contrastado", "contrastada",
    "contrastata", "contrastato", "kontrast", "kontrastu", "kontrastem", "kontraste", "kontrastmittel", "mdc", "mdk",
    "civ", "iv", "enhanced", "enhancement", "enh", "inj", "injection", "injecte", "injectee", "injected", "inject",
    "injekt", "inyeccion", "iniezione", *GADOLINIUM,
}  # fmt: skip
# Contrast too, unless they are a length, initials, or part of another name: "CM" (contrast medium), "+K".
WEAK = {"cm", "k"}
# Ambiguous after "T1": contrast or phase contrast, before or after contrast.
UNCLEAR = {"k", "pc"}
# Prefix -> word, for inflected forms: "kontrastu", "contrastee", "Gadodiamid".
STEMS = (("contras", "contrast"), ("kontras", "contrast"), ("gado", "gado"))
# Names for a "+" before a word, between two words, and after a word ("KM+").
JOINING = {"plus", "plusbetween"}
PLUS = {*JOINING, "plusbehind"}
# Contrast too, unless a treatment follows.
POST = {"post", "pos", "postc", "postcon", "postcontrast", "postcontraste", "postcontrasto", "poscontraste"}
TREATMENTS = (
    "op", "surg", "treat", "resect", "radi", "rt", "rx", "chemo", "chimi", "therap", "tx", "biops", "bx", "trauma",
    "implant", "shunt", "stroke", "interv", "bestrahl", "resek", "chir", "cirug", "cirurg",
)  # fmt: skip
WITHOUT = {
    "without", "wo", "ohne", "sans", "sin", "senza", "sem", "zonder", "utan", "uden", "uten", "bez", "sine", "minus",
    "not",
}  # fmt: skip
# Negations only if contrast follows: "no 3" is a number, "non fs" is about fat.
NEGATIONS = {
    *WITHOUT, "no", "non", "nicht", "kein", "keine", "geen", "before", "vor", "avant", "prima", "antes", "voor",
    "innan", "przed", "pred",
}  # fmt: skip
PRE = {"pre", "prae", "pra", "precontrast", "precontraste", "precontrasto"}
NATIVE = {
    "native", "nativ", "nativo", "nativa", "natif", "natives", "nativni", "plain", "noncontrast", "noncontrasted",
    "nocontrast", "noncon", "nc", "okm", "unenhanced", "nonenhanced", "basale", "blanco", "blank",
    "kontrastfrei", "kontrastlos", "kontrastsiz",
}  # fmt: skip
# After a word for contrast: "KM neg", "contrast free".
NONE_OF_IT = {"neg", "negative", "negativ", "negatif", "free", "frei", "none", "libre"}
WITH = {"with", "w", "mit", "avec", "con", "com", "met", "med", "z"}
# Between a negation and one of these, contrast is not negated: "before and after", "vor und nach".
AFTER = {"after", "nach", "apres", "dopo", "despues", "depois", "na", "efter", "etter", "po"}
AND = {"and", "und", "et", "y", "e", "en", "og", "och", "i", "oder", "or", "vs", "u"}
# Between a negation and what it negates: "sans produit de contraste", "senza mezzo di contrasto", "ohne i.v. KM".
FILLERS = {"produit", "de", "di", "du", "mezzo", "medio", "meio", "medium", "agent", "any", "the", "des", "d", "st"}
# Both, or undecidable: "+/- C".
AMBIGUOUS = {"ambiguous"}

FLAIR = {"flair", "fla", "darkfluid", "tirm"}
# T1-weighted by definition.
T1_SEQUENCES = {"mprage", "mpr", "mp2rage", "bravo", "spgr", "fspgr", "vibe", "tfe"}
CT = {"ct", "tc", "tac", "tdm"}
NATIVE_CT = {"nct", "ncct", "nect"}
CONTRAST_CT = {"ctpa", "cta", "ctpe", "cect", "angio", "angiography", "angiografia", "angiographie", "pulmonalis"}
# Other images of a study, and results of processing.
OTHER = {
    "adc", "dwi", "dti", "dki", "swi", "swip", "swan", "star", "gre", "map", "maps", "mapping", "perf", "perfusion",
    "pwi", "asl", "dsc", "dce", "dyn", "dynamic", "cbv", "rcbv", "cbf", "rcbf", "mtt", "ttp", "tmax", "ktrans", "tof",
    "mra", "mrv", "mrs", "csi", "svs", "seg", "segm", "mask", "label", "labels", "segmentation", "segmentations",
    "localizer", "localiser", "localizador", "scout", "aascout", "aahead", "survey", "topogram", "scanogram",
    "planscan", "pilot", "plane", "loc", "calibration", "asset", "shim", "fieldmap", "sub", "subtraction", "subtr",
    "phase", "pha", "trace", "tracew", "bold", "fmri", "diff", "diffusion", "ep2d", "epi", "tensor", "b0",
    "b1000", "rho", "molli", "ratio", "relaxometry", "qsm", "mip", "minip", "stir", "dir", "ciss", "fiesta", "medic",
    "hemo", "heme", "spine", "cspine", "tspine", "lspine", "cervical", "lumbar", "hws", "bws", "lws", "mag", "qmap",
    "synthetic", "difference",
}  # fmt: skip
# With T2, these indicate another weighting, or possibly one: proton density, T2*, inversion without fluid suppression.
NOT_WITH_T2 = {"pd", "pdw", "proton", "ir", "fl2d", "ffe", "fgre", "hemosiderin", "dual", "echoes"}
# Names of masks of something other than lesions, of which a folder may contain many.
TISSUE_WORDS = {
    "brain", "brainmask", "parenchyma", "skull", "bet", "hdbet", "stripped", "head", "tissue", "tissues", "wm", "gm",
    "csf", "ventricles", "lung", "lungs", "heart", "artery", "arteries", "vessel", "vessels", "airway",
    "aseg", "organs",
}  # fmt: skip
MASKS = {
    "seg", "segm", "segmentation", "segmentations", "segmented", "label", "labels", "gt", "groundtruth", "truth",
    "glistrboost", "tumorseg", "tumourseg",
}  # fmt: skip
PLANES = {
    "ax", "axial", "axi", "sag", "sagittal", "cor", "coronal", "tra", "trans", "transversal", "transverse", "obl",
}  # fmt: skip
# Words without information on the weighting; used to split joined names.
NEUTRAL = {
    *PLANES, "weighted", "wi", "se", "tse", "fse", "ffe", "fs", "fatsat", "spair", "space", "spc", "cube", "vista",
    "blade", "propeller", "flash", "fl3d", "fl2d", "dixon", "thrive", "lava", "iso", "hr", "hires", "highres", "2d",
    "3d", "p2", "p3", "mm", "gw", "turbo", "spin", "echo", "ir", "irse", "sense", "brain", "bias", "n4", "reg",
    "raw", "orig", "unstripped", "stripped", "bet", "image", "img", "mni",
}  # fmt: skip
# Additions to a T1 that do not mean contrast: "T1 + fat sat", "T1 with skull".
TECHNIQUE = {
    *(NEUTRAL - PLANES), *TISSUE_WORDS, *MASKS, "fat", "sat", "fatsup", "supp", "suppression", "water", "navigator",
    "nav", "motion", "correction", "moco", "gating", "registration", "recon", "reformat", "nd",
}  # fmt: skip
# Directly before a weighting: "axT1", "CT1" (LUMIERE), "sT1W" and "eT1W" (Philips), "rT1" (resampled).
BEFORE_WEIGHTING = {
    "": "", "s": "", "e": "", "r": "", "c": "c", "ce": "ce", "gd": "gd", "gad": "gad", "km": "km", "post": "post",
    "pre": "pre", "postcontrast": "postcontrast", "precontrast": "precontrast", "3d": "3d",
    "nativ": "nativ", "native": "native",
}  # fmt: skip
# Directly after it: "t1n", "t1ce", "t2w", "t2f"; or any of the words above.
AFTER_T1 = {"": "", "w": "", "wi": "", "n": "native", "nc": "native", "c": "c", "k": "k"}
AFTER_T2 = {"": "", "w": "", "wi": "", "f": "flair", "s": "star"}

# Spellings that are not plain words, replaced in this order: (pattern, words).
SPELLINGS = (
    (r"\.(nii|gz|nrrd|nhdr|mha|mhd|dcm)(?![a-z0-9])", " "),
    (r"造影|增强|增強|с\s*контраст\w*", " with contrast "),
    (r"単純|单纯|平扫|平掃|без\s*контраст\w*", " native "),
    (r"(?<![a-z0-9])(?:sub|ses)-(?=[a-z0-9])", " subject x"),  # BIDS: what follows is a name, whatever it looks like
    (r"t2\s*\*", " t2 star "),
    (r"da(?:rk)?[\W_]*fl(?:uid)?(?![a-z])", " darkfluid "),
    (r"(?<![a-z0-9])m\.\s?d\.\s?c(?![a-z0-9])", " mdc "),
    (r"(?<![a-z0-9])k\.\s?m(?![a-z0-9])", " km "),
    (r"(?<![a-z0-9])o\.\s?km(?![a-z0-9])", " ohne km "),
    (r"(?<![a-z0-9])i\.\s?v(?![a-z0-9])", " iv "),
    (r"\+\s*/\s*-|-\s*/\s*\+|±|w\s*/\s*wo(?![a-z0-9])", " ambiguous "),
    (r"(?<![a-z0-9])w\s*/\s*o(?:ut)?(?![a-z0-9])", " without "),
    (r"(?<![a-z0-9])w\s*/", " with "),
    (r"(?<![a-z0-9])s\s*/\s*c(?![a-z0-9])", " native "),
    (r"(?<![a-z0-9])c\s*/\s*c(?![a-z0-9])", " with contrast "),
    (r"(?<![a-z0-9])s\s*/", " without "),
    (r"(?<![a-z0-9])c\s*/(?=\s*[a-z])", " with "),
    (r"(?<![a-z0-9])(wo?|with|without|non?|pre|post)[\s_.-]+con(?![a-z0-9])", r"\1 contrast"),
    (r"\+\s?con(?![a-z0-9])", " contrast "),
    # "C-", "KM-" at the end of a word negate it; a separate "- KM" may be a dash or a minus.
    (
        r"(?<![a-z0-9])(t1w?)?(?:c|ce|k|km|cm|gd|gad|gado|iv|mdc|contr|kontr|contrast|kontrast)-(?![a-z0-9])",
        r" \1 native ",
    ),
    (r"(?<=\s)-\s*(?:c|ce|k|km|cm|gd|gad|gado|iv|mdc)(?![a-z0-9])", " ambiguous "),
    (r"(?<![a-z0-9])(t[12])-w(?![a-z0-9])", r"\1w"),
    (r"(?<![a-z0-9])(\d+(?:[.,]\d+)?)cm(?![a-z0-9])", r"\1 "),  # a length
    (r"(?<=[a-z0-9])\+(?=[a-z0-9])", " plusbetween "),
    (r"(?<=[a-z0-9)\]])\+", " plusbehind "),
    (r"\+", " plus "),
)  # fmt: skip

WEIGHTINGS = frozenset({"t1", "t2", *FLAIR, *T1_SEQUENCES, *CT, *NATIVE_CT, *CONTRAST_CT})
# All words that indicate the modality rather than the patient.
TELLING = frozenset(
    {
        "subject", "cm", *WEIGHTINGS, *CONTRAST, *POST, *NEGATIONS, *PRE, *NATIVE, *NONE_OF_IT, *WITH, *AFTER, *AND,
        *FILLERS, *AMBIGUOUS, *PLUS,
    }
)  # fmt: skip
# Words that joined names may consist of; single letters would match everywhere.
GLUABLE = frozenset(
    word
    for word in {
        *CONTRAST, *POST, *NEGATIONS, *PRE, *NATIVE, *FLAIR, *T1_SEQUENCES, *OTHER, *NEUTRAL, "mit", "avec", "cm",
    }
    if len(word) > 1
)  # fmt: skip
