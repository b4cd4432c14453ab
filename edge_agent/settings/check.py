"""What `edge-agent check` finds, as text and as JSON; connecting is left to the command."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.settings import plant, report
from edge_agent.settings.explained import anchor
from edge_agent.settings.load import Loaded, load
from edge_agent.settings.masking import masked
from edge_agent.settings.problems import Problem, at, in_order, snippet
from edge_agent.settings.wording import listed

OK, FINDINGS, BAD = 0, 1, 78


@dataclass(slots=True)
class FileCheck:
    """One configuration: what is wrong with it and, where nothing is, what it will cost."""

    path: Path
    loaded: Loaded
    problems: list[Problem]
    summary: report.Summary | None

    @property
    def usable(self) -> bool:
        """Whether an agent could run with it."""
        return not any(problem.severity == "error" for problem in self.problems)


@dataclass(slots=True)
class CheckResult:
    """What was found in all files."""

    files: list[FileCheck] = field(default_factory=list)
    strict: bool = False

    @property
    def problems(self) -> list[Problem]:
        """Every problem, file by file in the order they were named."""
        return list(dict.fromkeys(problem for file in self.files for problem in file.problems))

    @property
    def errors(self) -> int:
        """How many problems keep a configuration from being used."""
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def warnings(self) -> int:
        """How many don't."""
        return len(self.problems) - self.errors

    @property
    def exit_code(self) -> int:
        """0 fine (warnings too), 1 warnings with `strict`, 78 an error."""
        if self.errors:
            return BAD
        return FINDINGS if self.strict and self.warnings else OK

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "ok": self.exit_code == OK,
            "errors": self.errors,
            "warnings": self.warnings,
            "problems": [problem.to_json() for problem in self.problems],
            "files": [
                {
                    "file": str(file.path),
                    "ok": file.usable,
                    "summary": file.summary.to_json() if file.summary else None,
                }
                for file in self.files
            ],
        }

    def text(self, *, source: bool = False) -> str:
        """The result for people; with `source`, each problem is shown in its line with a caret."""
        lines: list[str] = []
        shown = self._source() if source else {}
        for problem in self.problems:
            lines.append(str(problem))
            if part := snippet(problem, shown):
                lines.append(part)
        for file in self.files:
            lines += self._ending(file)
        if source and self.problems:
            codes = sorted({problem.code for problem in self.problems})
            lines.append(f"more about {listed(codes[:5])}{' ...' if codes[5:] else ''}: {anchor(codes[0])}")
        return "\n".join(lines)

    def _ending(self, file: FileCheck) -> list[str]:
        errors = sum(problem.severity == "error" for problem in file.problems)
        counts = (
            f"{report.counted(errors, 'error')}, {report.counted(len(file.problems) - errors, 'warning')}"
        )
        if file.summary is None:
            return [f"{file.path}: {counts}"]
        return [f"{file.path}: ok, {counts}", *(f"  {line}" for line in file.summary.lines())]

    def _source(self) -> dict[str, list[str]]:
        # Only the lines that are shown are masked: masking a whole file costs more than checking it.
        wanted = {(problem.file, problem.line) for problem in self.problems}
        shown: dict[str, list[str]] = {}
        for file in self.files:
            for name, lines in file.loaded.lines.items():
                shown[name] = [
                    masked(lines, number - 1) if (name, number) in wanted else ""
                    for number in range(1, len(lines) + 1)
                ]
        return shown


def check(
    paths: Sequence[Path | str], *, strict: bool = False, env: Mapping[str, str] = os.environ
) -> CheckResult:
    """Check each of `paths` for itself, and their machines' names against each other."""
    result = CheckResult(strict=strict)
    for path in paths:
        loaded = load(path, env=env)
        summary = report.summarize(loaded.configuration) if loaded.configuration else None
        problems = [*loaded.problems, *_overloads(loaded, summary)]
        if summary and loaded.configuration and loaded.root:
            problems += plant.of_plant(loaded.root, loaded.configuration, summary)
        result.files.append(FileCheck(Path(path), loaded, in_order(problems), summary))
    _unique_in_site(result.files)
    return result


def _overloads(loaded: Loaded, summary: report.Summary | None) -> list[Problem]:
    """A warning for each connection that cannot answer as often as it is asked."""
    problems = []
    for connection in summary.loads if summary else ():
        place = loaded.place("machines", connection.machines[0], "url")
        if connection.busy > 1 and place is not None:
            message = f"{connection.connection} is {connection.busy:.0%} full"
            problems.append(
                at(place, "W310", message, "read some tags less often: every: ..., or raise max_gap")
            )
    return problems


def _unique_in_site(files: Sequence[FileCheck]) -> None:
    """Two agents of one site must not both have a machine of the same name: their series would interleave."""
    first: dict[tuple[str | None, str, str], Path] = {}
    for file in files:
        configuration = file.loaded.configuration
        if configuration is None:
            continue
        for name in configuration.machines:
            key = (configuration.enterprise, configuration.site, name)
            other = first.setdefault(key, file.path)
            place = file.loaded.place("machines", name)
            if other != file.path and place is not None:
                message = f"a machine '{name}' is already in {other}"
                file.problems.append(at(place, "E201", message, "names are unique in a site"))
        file.problems = in_order(file.problems)
