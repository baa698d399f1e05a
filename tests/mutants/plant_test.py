#!/usr/bin/env python3
"""What plants bugs must not do it by halves: every place is found once in today's sources, what is
planted compiles, a malformed list is refused by its line, and a release never has any."""

import importlib.machinery
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.dont_write_bytecode = True


def load_plant():
    loader = importlib.machinery.SourceFileLoader("plant", str(HERE / "plant"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("plant", loader))
    loader.exec_module(module)
    return module


plant = load_plant()
GOOD = ("mutant a-name 1,2\nfile raft/quorum.c\nfind return «voter_count / 2 + 1»;\nput 1\n"
        "why it goes wrong\n")


def refusal_of(text):
    """What read_list() and the planting say of this list; None if they take it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "mutants.txt"
        path.write_text(text, encoding="utf-8")
        try:
            mutants = plant.read_list(path)
            plant.write(mutants, pathlib.Path(folder) / "out")
        except SystemExit as stopped:
            return str(stopped.code)
    return None


class List(unittest.TestCase):
    def test_a_good_list_is_taken(self):
        self.assertIsNone(refusal_of("# a comment\n\n" + GOOD))

    def test_a_malformed_list_is_refused_by_its_line(self):
        second = GOOD.replace("a-name", "b")
        rows = [
            ("", 1, "no mutant"),
            ("file raft/quorum.c\n" + GOOD, 1, "expected mutant"),
            (GOOD + "bug c\n", 6, "expected mutant"),
            (GOOD.replace("a-name", "A name"), 1, "lower case"),
            (GOOD.replace("1,2\n", "2,1\n"), 1, "levels"),
            (GOOD.replace("1,2\n", "4\n"), 1, "levels"),
            (GOOD + GOOD, 6, "twice"),
            (GOOD.replace("«", ""), 3, "marks one part"),
            (GOOD.replace("»", ""), 3, "marks one part"),
            (GOOD.replace("2 + 1", "«2» + 1"), 3, "marks one part"),
            (GOOD.replace("put 1\n", ""), 1, "needs"),
            (GOOD.replace("why it goes wrong\n", ""), 1, "needs"),
            (GOOD.replace("why it goes wrong\n", "") + second, 1, "needs"),
            (GOOD.replace("put 1\n", "put\n"), 4, "says nothing"),
            (GOOD.replace("put 1\n", "put 1\nput 2\n"), 5, "behind its 'find'"),
            (GOOD.replace("put 1\n", "find «a»\nput 1\n"), 4, "comes behind"),
            (GOOD.replace("file raft/quorum.c\n", ""), 2, "comes behind"),
            (GOOD.replace("raft/quorum.c", "raft/nowhere.c"), 3, "No such file"),
            (GOOD.replace("voter_count", "nobody"), 3, "0 times"),
            (GOOD.replace("return «voter_count / 2 + 1»;", "«;»"), 3, "times, not once"),
        ]
        for text, line, words in rows:
            with self.subTest(words=words, line=line):
                said = refusal_of(text)
                self.assertIsNotNone(said)
                self.assertIn(f"mutants.txt:{line}: ", said)
                self.assertIn(words, said)


class Choice(unittest.TestCase):
    def test_a_place_inside_of_another_keeps_both_choices(self):
        text = "x = f(a, b);"
        spans = {(4, 11): [(1, "g()")], (9, 10): [(2, "c")], (6, 7): [(3, "d")]}
        self.assertEqual(plant.rewrite(text, 0, spans),
                         "x = (mutant_active == 1 ? (g()) : (f((mutant_active == 3 ? (d) : (a)), "
                         "(mutant_active == 2 ? (c) : (b)))));")

    def test_a_statement_is_replaced_by_statements(self):
        self.assertEqual(plant.choice([(7, "b(); c();")], "a();"),
                         "{ if (mutant_active == 7) { b(); c(); } else { a(); } }")


class Sources(unittest.TestCase):
    def test_every_mutant_has_its_places_in_the_sources_and_compiles(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([HERE / "plant", "--to", folder], check=True)
            planted = sorted(pathlib.Path(folder).glob("*.c"))
            files = subprocess.check_output([HERE / "plant", "--files"], text=True).split()
            self.assertEqual([path.name for path in planted],
                             sorted(file.replace("/", "_") for file in files))
            for path in planted:
                with self.subTest(file=path.name):
                    subprocess.run(
                        ["gcc", "-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic",
                         "-Wshadow", "-Wconversion", "-Werror", "-D_POSIX_C_SOURCE=200809L",
                         "-DRAFTKV_VERSION=\"0\"", f"-I{ROOT}", "-include", HERE / "active.h", path],
                        check=True)

    def test_names_and_numbers_are_those_of_the_list(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([HERE / "plant", "--to", folder], check=True)
            table = (pathlib.Path(folder) / "names.h").read_text(encoding="utf-8").splitlines()
        names = subprocess.check_output([HERE / "plant", "--list"], text=True).split()
        self.assertEqual([row.split('"')[1] for row in table], names)
        self.assertEqual([int(row.split()[1].rstrip(",")) for row in table],
                         list(range(1, len(names) + 1)))

    def test_without_a_known_command_it_says_what_it_does(self):
        run = subprocess.run([HERE / "plant"], capture_output=True, text=True)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("--to DIR", run.stderr)


class Release(unittest.TestCase):
    def test_a_release_refuses_planted_bugs(self):
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(["meson", "setup", "--buildtype=release", "-Dmutants=true", folder,
                                  ROOT], capture_output=True, text=True)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("a release has no planted bugs", run.stdout)


if __name__ == "__main__":
    unittest.main()
