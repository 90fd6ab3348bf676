"""Every error the pipeline raises on purpose: one class and one exit code per kind.

A message says what is wrong and what would be right. It never carries a patient's value, name or identifier:
it may name a file, a key, a rule, a resource type or a count.
"""


class PipelineError(Exception):
    """Anything that went wrong and was not foreseen: exit code 1."""

    exit_code = 1


class DefinitionError(PipelineError):
    """A bad study folder, option or parameter: exit code 2. Raised before any data are touched."""

    exit_code = 2


class SourceError(PipelineError):
    """The source cannot be reached, refuses, or is not what it claims to be: exit code 3."""

    exit_code = 3


class IncompleteDataError(PipelineError):
    """Something that should be there is missing, so nothing final was published: exit code 4."""

    exit_code = 4


class DisclosureError(PipelineError):
    """The cohort is too small, or too finely cut, for the release edition: exit code 4, nothing was published."""

    exit_code = 4


class NoPatientsError(PipelineError):
    """The enrolment rule selected nobody; an empty report would read like a result: exit code 5."""

    exit_code = 5


EXIT_CODES = {
    0: "done",
    1: "something unforeseen failed; nothing was published",
    2: "a usage error or a bad definition; nothing was pulled",
    3: "the source could not be reached or refused",
    4: "data incomplete; nothing final was published",
    5: "no enrolled patients",
}
