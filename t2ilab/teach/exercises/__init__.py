"""Checkers of the exercises: functions that look at an answer and say what is wrong with it.

`check("03a", answer)` calls EXERCISES["03a"](answer): None means right, a sentence is a hint that does not
give the answer away. A checker tests a property where it can (does your function invert itself?), and
compares with a number where it must.

One file per lesson; each ends in its own table.
"""
from . import lesson_01, lesson_02, lesson_03, lesson_04, lesson_05, lesson_06, lesson_07, lesson_08
from .answers import exactly, near

LESSONS = (lesson_01, lesson_02, lesson_03, lesson_04,
           lesson_05, lesson_06, lesson_07, lesson_08)
EXERCISES = {name: checker for lesson in LESSONS for name, checker in lesson.EXERCISES.items()}

__all__ = ["EXERCISES", "exactly", "near"]
