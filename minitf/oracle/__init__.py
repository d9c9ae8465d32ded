"""The oracle: the right answer, the right gradient, and the tolerance that an honest implementation can meet.

from minitf import oracle

oracle.names("attention.*")                                    what it knows
case = oracle.case("attention.differential", size="small")     inputs, options, outputs, gradients
report = oracle.check("attention.differential", my_function, framework="torch", dtype="bfloat16")
print(report); report.raise_for_failure()
oracle.judge("attention.differential", case, saved_output)     arrays that are there already
oracle.tolerance(written_with_mt, inputs, dtype="bfloat16")    for techniques that are not ours
oracle.export("attention.*", "vectors")                        cases as files, for any language
"""

from minitf.oracle.answers import FORMAT_VERSION, SIZES, Case, case, cases, labels
from minitf.oracle.draw import Draw
from minitf.oracle.judgement import check, judge
from minitf.oracle.references import UnknownName, names
from minitf.oracle.report import OracleError, Report, Row
from minitf.oracle.tolerances import tolerance
from minitf.oracle.vectors import export

__all__ = [
    "FORMAT_VERSION",
    "SIZES",
    "Case",
    "Draw",
    "OracleError",
    "Report",
    "Row",
    "UnknownName",
    "case",
    "cases",
    "check",
    "export",
    "judge",
    "labels",
    "names",
    "tolerance",
]
