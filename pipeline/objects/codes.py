"""Every coded concept that results use, one name each.

Schemes: SCT is SNOMED CT, DCM is PS3.16 annex D, UCUM are units, LN is LOINC. Where none of them
has a concept (PS3.16 CIDs 7151, 7166, 7191, 7469 and 7710 searched), the code is our own.

Fat is one of these. PS3.16 knows fat of no place (55603005, "Fat"). SNOMED CT has adipose tissue of
the abdomen (725273006), which others write for visceral fat; but that under the skin of the abdomen
is adipose tissue of the abdomen too, and a report that holds both would count it twice. For fat
between muscles nothing was found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydicom.sr.coding import Code

from pipeline.tissues import SKELETAL_MUSCLE
from pipeline.types import Measure, Verdict

LOCAL_SCHEME: Final = "99PSOAS"
LOCAL_SCHEME_NAME: Final = "Psoas local codes"

TISSUE: Final = Code("85756007", "SCT", "Tissue")
L3_VERTEBRA: Final = Code("36470004", "SCT", "L3 vertebra")

AREA: Final = Code("42798000", "SCT", "Area")
ATTENUATION: Final = Code("112031", "DCM", "Attenuation Coefficient")
MEAN: Final = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION: Final = Code("386136009", "SCT", "Standard Deviation")
MUSCLE_INDEX: Final = Code("SMI", LOCAL_SCHEME, "Skeletal muscle index")
AREA_LOWER_BOUND: Final = Code("SMALOWER", LOCAL_SCHEME, "Lower bound of muscle area")
AREA_UPPER_BOUND: Final = Code("SMAUPPER", LOCAL_SCHEME, "Upper bound of muscle area")
INTERVAL_COVERAGE: Final = Code("SMACOVER", LOCAL_SCHEME, "Coverage of the bounds")
AREA_CUTOFF: Final = Code("SMACUTOFF", LOCAL_SCHEME, "Cut-off of muscle area")
INDEX_CUTOFF: Final = Code("SMICUTOFF", LOCAL_SCHEME, "Cut-off of muscle index")
ATTENUATION_CUTOFF: Final = Code("SMDCUTOFF", LOCAL_SCHEME, "Cut-off of muscle attenuation")
LOW_PROBABILITY: Final = Code(
    "SMALOWPROB", LOCAL_SCHEME, "Probability of low skeletal muscle by a classifier"
)
PRIOR_AREA: Final = Code("SMAPRIOR", LOCAL_SCHEME, "Previous muscle area")
PRIOR_DATE: Final = Code("SMAPRIORDATE", LOCAL_SCHEME, "Date of the previous study")
AREA_CHANGE: Final = Code("SMACHANGE", LOCAL_SCHEME, "Change of muscle area")
AREA_CHANGE_ERROR: Final = Code("SMACHANGEERROR", LOCAL_SCHEME, "Measurement error of the change")

SQUARE_CENTIMETRE: Final = Code("cm2", "UCUM", "cm2")
HOUNSFIELD_UNIT: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
INDEX_UNIT: Final = Code("cm2/m2", "UCUM", "cm2/m2")
PERCENT: Final = Code("%", "UCUM", "%")

LOW_MUSCLE_AREA: Final = Code("LOWSMA", LOCAL_SCHEME, "Low skeletal muscle area")
LOW_MUSCLE_INDEX: Final = Code("LOWSMI", LOCAL_SCHEME, "Low skeletal muscle index")
LOW_ATTENUATION: Final = Code("LOWSMD", LOCAL_SCHEME, "Low skeletal muscle attenuation")
REASON: Final = Code("REASON", LOCAL_SCHEME, "Reason of the assessment")
CITATION: Final = Code("CITATION", LOCAL_SCHEME, "Source of the cut-off")
COMPARISON: Final = Code("COMPARISON", LOCAL_SCHEME, "Comparison with the previous study")
REFUSAL: Final = Code("REFUSAL", LOCAL_SCHEME, "Code of the refusal")
QUALITY_REMARK: Final = Code("QUALITY", LOCAL_SCHEME, "Quality remark")
INTENDED_USE: Final = Code("INTENDED", LOCAL_SCHEME, "Intended use")

DIAGNOSTIC_REPORT: Final = Code("18748-4", "LN", "Diagnostic Imaging Report")
LANGUAGE: Final = Code("121049", "DCM", "Language of Content Item and Descendants")
OBSERVER_TYPE: Final = Code("121005", "DCM", "Observer Type")
DEVICE: Final = Code("121007", "DCM", "Device")
DEVICE_UID: Final = Code("121012", "DCM", "Device Observer UID")
DEVICE_NAME: Final = Code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER: Final = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL: Final = Code("121015", "DCM", "Device Observer Model Name")
CT_PROCEDURE: Final = Code("25045-6", "LN", "CT unspecified body region")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
ENGLISH: Final = Code("en", "RFC5646", "English")

# CID 240; it has no value for "nobody looked".
VERDICTS: Final[Mapping[Verdict, Code]] = MappingProxyType(
    {
        Verdict.BELOW_CUTOFF: Code("52101004", "SCT", "Present"),
        Verdict.ABOVE_CUTOFF: Code("272519000", "SCT", "Absent"),
        Verdict.INDETERMINATE: Code("373068000", "SCT", "Undetermined"),
        Verdict.NOT_ASSESSED: Code("NOTASSESSED", LOCAL_SCHEME, "Not assessed"),
    }
)

LOW_FINDINGS: Final[Mapping[Measure, Code]] = MappingProxyType(
    {
        Measure.AREA: LOW_MUSCLE_AREA,
        Measure.INDEX: LOW_MUSCLE_INDEX,
        Measure.ATTENUATION: LOW_ATTENUATION,
    }
)
"""What a verdict on each measure is a verdict on."""

CUTOFFS: Final[Mapping[Measure, tuple[Code, Code]]] = MappingProxyType(
    {
        Measure.AREA: (AREA_CUTOFF, SQUARE_CENTIMETRE),
        Measure.INDEX: (INDEX_CUTOFF, INDEX_UNIT),
        Measure.ATTENUATION: (ATTENUATION_CUTOFF, HOUNSFIELD_UNIT),
    }
)
"""Name and unit of the cut-off of each measure."""


@dataclass(frozen=True, slots=True)
class TissueConcept:
    """How a tissue is named and shown.

    Parameters
    ----------
    label : str
    code : Code
    colour : tuple[int, int, int]
        sRGB, 0 to 255.
    """

    label: str
    code: Code
    colour: tuple[int, int, int]


TISSUE_CONCEPTS: Final[Mapping[str, TissueConcept]] = MappingProxyType(
    {
        SKELETAL_MUSCLE: TissueConcept(
            "Skeletal muscle", Code("127954009", "SCT", "Skeletal muscle"), (220, 60, 60)
        ),
        "intermuscular_fat": TissueConcept(
            "Intermuscular fat",
            Code("IMAT", LOCAL_SCHEME, "Intermuscular adipose tissue"),
            (120, 220, 120),
        ),
        "subcutaneous_fat": TissueConcept(
            "Subcutaneous fat", Code("67769002", "SCT", "Subcutaneous fatty tissue"), (240, 200, 60)
        ),
        "visceral_fat": TissueConcept(
            "Visceral fat", Code("VAT", LOCAL_SCHEME, "Visceral adipose tissue"), (60, 160, 240)
        ),
    }
)
