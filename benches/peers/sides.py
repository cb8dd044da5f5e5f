"""The programs that take turns. A side has a name, `turn()` that gives one measurement, and `close()`."""
import json, os, re, subprocess, tempfile, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# So that a program that spins while it waits for work has gone to sleep when the other one is measured.
PAUSE = 0.3


class Home:
    """Where programs and models are, and how many threads they get."""

    def __init__(self, env, target, threads, text, avx2):
        self.env, self.target, self.threads, self.text, self.avx2 = env, target, threads, text, avx2
        self.models = env / "models"

    def model(self, name):
        """A model's file or folder."""
        path = self.models / name
        if not path.exists():
            raise RuntimeError(f"{path} is not there; run setup")
        return str(path)

    def formwork(self):
        return str(built(self.target / "formwork", "cargo build --release -p formwork-cli"))

    def turns(self, threads=None):
        """Formwork's kernels, a job a line."""
        program = built(self.target / "turns", "cargo build --release -p formwork-benches --bin turns")
        return [str(program), str(threads or self.threads)]

    def machine(self, threads=None):
        """Measures the roofline."""
        return Server("roofline", self.turns(threads), "roofline", lambda found: found)

    def python(self, script, *words):
        """A script of ours in the environment of torch."""
        interpreter = self.env / "venv/bin/python"
        if not interpreter.exists():
            raise RuntimeError(f"{interpreter} is not there; run setup")
        return [str(interpreter), str(HERE / script), str(self.threads), *map(str, words)]

    def llama(self):
        program = self.env / ("llama-avx2" if self.avx2 else "llama") / "bin/llama-bench"
        if not program.exists():
            raise RuntimeError(f"{program} is not there; run setup")
        return str(program)

    def llama_version(self):
        """Its name and the commit that it was built from."""
        said = subprocess.run([self.llama(), "--version"], capture_output=True, text=True)
        commit = re.search(r"commit (\w+)", said.stdout + said.stderr)
        return f"llama.cpp {commit[1]}" if commit else "llama.cpp"

    def candle(self):
        program = self.env / "candle/release/candle-peer"
        if not program.exists():
            raise RuntimeError(f"{program} is not there; run setup")
        return [str(program)]


def built(program, how):
    if not program.exists():
        raise RuntimeError(f"{program} is not there; run {how}")
    return program


class Command:
    """A program that is started for every turn; `read` makes a number of what it prints, JSON or, by another `parse`,
    text. Without it the number is the seconds of the whole command."""

    def __init__(self, name, words, read=None, parse=json.loads):
        self.name, self.words, self.read, self.parse = name, words, read, parse

    def turn(self):
        time.sleep(PAUSE)
        begin = time.perf_counter()
        done = subprocess.run(self.words, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(f"{' '.join(self.words)}: {last_line(done.stderr)}")
        return self.read(self.parse(done.stdout)) if self.read else seconds

    def close(self):
        pass


class Server:
    """A program that stays: it reads a job a line, and answers with a line of JSON."""

    def __init__(self, name, words, job, read=lambda found: found["value"], env=None):
        self.name, self.job, self.read = name, job, read
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env={**os.environ, **(env or {})},
        )

    def turn(self):
        time.sleep(PAUSE)
        try:
            self.process.stdin.write(self.job + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # said below
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.name}, {self.job}: {last_line(self.errors.read())}")
        found = json.loads(line)
        if "error" in found:
            raise RuntimeError(f"{self.name}, {self.job}: {found['error']}")
        self.name = found.get("name", self.name)
        return self.read(found)

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.stdout.close()
        self.errors.close()


class Roofline:
    """A ceiling of the machine in place of a peer."""

    def __init__(self, home, key, threads=None):
        self.name, self.server = f"roofline {key}", home.machine(threads)
        self.server.read = lambda found: found[key]

    def turn(self):
        return self.server.turn()

    def close(self):
        self.server.close()


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"
