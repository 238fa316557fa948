#!/usr/bin/env python3
"""Makes the demo model: writes its own text, trains a tokenizer and a small Llama on it, saves, and judges the result.

Nothing is downloaded or read: every sentence comes from the tables and the grammar below. README.md says more.
"""

import argparse
import hashlib
import json
import math
import os
import random
import re
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

HERE = Path(__file__).resolve().parent
MODEL_DIR = HERE.parent / "main/resources/dev/lamina/cli/demo"
HELD_OUT = HERE.parent / "test/resources/dev/lamina/cli/demo/held-out.jsonl"

SEED = 20250
STEPS = 1600
LEARNING_RATE = 3e-3
SHORT_BATCH, LONG_BATCH = 128, 12  # examples a step: questions with their answers; stories and conversations
LARGEST_DIGITS = 3  # of an operand; half of the trained sums have operands below 100
LARGE_HELD_OUT = 182  # held-out sums with an operand of 100 or more; those below are all judged
BAR = 0.95

BOS, USER, ASSISTANT, END = "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1536,
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_hidden_layers": 7,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-05,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 3,
    "torch_dtype": "bfloat16",
}
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ '<|user|>' + message['content'] | trim + '<|end|>' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] | trim + '<|end|>' }}"
    "{% else %}"
    "{{ raise_exception('The demo model knows the roles user and assistant only.') }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

# ---------------------------------------------------------------------------------------------------------------------
# The small world
# ---------------------------------------------------------------------------------------------------------------------

COUNTRIES = {
    "Europe": """Albania Tirana, Austria Vienna, Belgium Brussels, Bulgaria Sofia, Croatia Zagreb, Denmark Copenhagen,
        Estonia Tallinn, Finland Helsinki, France Paris, Germany Berlin, Greece Athens, Hungary Budapest,
        Iceland Reykjavik, Ireland Dublin, Italy Rome, Latvia Riga, Lithuania Vilnius, Malta Valletta, Norway Oslo,
        Poland Warsaw, Portugal Lisbon, Romania Bucharest, Serbia Belgrade, Slovakia Bratislava, Slovenia Ljubljana,
        Spain Madrid, Sweden Stockholm, Switzerland Bern, Ukraine Kyiv, Moldova Chisinau, Montenegro Podgorica""",
    "Asia": """Afghanistan Kabul, Bangladesh Dhaka, Bhutan Thimphu, Cambodia Phnom_Penh, China Beijing, India New_Delhi,
        Indonesia Jakarta, Iran Tehran, Iraq Baghdad, Japan Tokyo, Jordan Amman, Kazakhstan Astana, Laos Vientiane,
        Lebanon Beirut, Malaysia Kuala_Lumpur, Mongolia Ulaanbaatar, Nepal Kathmandu, Oman Muscat, Pakistan Islamabad,
        Qatar Doha, South_Korea Seoul, Syria Damascus, Thailand Bangkok, Uzbekistan Tashkent, Vietnam Hanoi""",
    "Africa": """Algeria Algiers, Angola Luanda, Botswana Gaborone, Cameroon Yaounde, Chad N'Djamena, Egypt Cairo,
        Ethiopia Addis_Ababa, Gabon Libreville, Ghana Accra, Guinea Conakry, Kenya Nairobi, Liberia Monrovia,
        Libya Tripoli, Madagascar Antananarivo, Malawi Lilongwe, Mali Bamako, Morocco Rabat, Mozambique Maputo,
        Namibia Windhoek, Niger Niamey, Nigeria Abuja, Rwanda Kigali, Senegal Dakar, Somalia Mogadishu, Sudan Khartoum,
        Togo Lome, Tunisia Tunis, Uganda Kampala, Zambia Lusaka, Zimbabwe Harare""",
    "North America": """Canada Ottawa, Costa_Rica San_Jose, Cuba Havana, El_Salvador San_Salvador, Haiti Port-au-Prince,
        Honduras Tegucigalpa, Jamaica Kingston, Nicaragua Managua, Barbados Bridgetown""",
    "South America": """Argentina Buenos_Aires, Brazil Brasilia, Chile Santiago, Colombia Bogota, Ecuador Quito,
        Guyana Georgetown, Paraguay Asuncion, Peru Lima, Suriname Paramaribo, Uruguay Montevideo, Venezuela Caracas""",
    "Oceania": "Australia Canberra, Fiji Suva, New_Zealand Wellington, Samoa Apia, Tonga Nuku'alofa, Vanuatu Port_Vila",
}
OPPOSITES = """hot cold, big small, fast slow, light dark, high low, old young, happy sad, wet dry, hard soft, full
    empty, early late, open closed, loud quiet, strong weak, rich poor, thick thin, clean dirty, near far, left
    right, up down, good bad, heavy weightless, sharp blunt, sweet bitter, long short, deep shallow, wide narrow,
    brave fearful, true false, day night, summer winter, north south, east west, friend enemy, question answer, win
    lose, push pull, begin end, remember forget, buy sell, give take, laugh cry, awake asleep, alive dead, cheap
    expensive, easy difficult, rough smooth, straight crooked, first last, inside outside, always never, everything
    nothing, love hate, arrive leave, increase decrease, war peace, guilty innocent, polite rude, public private,
    simple complicated"""
YOUNG = """dog puppy, cat kitten, cow calf, sheep lamb, horse foal, goat kid, pig piglet, hen chick, duck duckling,
    goose gosling, bear cub, deer fawn, kangaroo joey, frog tadpole, swan cygnet, owl owlet, eel elver, hare leveret,
    seal pup, eagle eaglet"""
SOUNDS = """dog barks, cat meows, cow moos, sheep bleats, horse neighs, pig oinks, duck quacks, hen clucks, lion roars,
    wolf howls, owl hoots, bee buzzes, snake hisses, frog croaks, mouse squeaks, donkey brays, elephant trumpets,
    crow caws, dove coos, bear growls"""
COLOURS = """grass green, the_sky blue, snow white, blood red, coal black, a_lemon yellow, a_banana yellow, a_carrot
    orange, chocolate brown, an_elephant grey, a_flamingo pink, a_canary yellow, a_raven black, milk white,
    an_emerald green, a_ruby red, a_sapphire blue, a_strawberry red, a_pumpkin orange, lavender purple, a_polar_bear
    white, a_tomato red, salt white, spinach green, a_plum purple, honey golden, soot black, a_cucumber green, rust
    brown"""
PAST = """go went, eat ate, see saw, take took, give gave, come came, run ran, write wrote, speak spoke, drive
    drove, swim swam, sing sang, drink drank, fly flew, know knew, grow grew, break broke, choose chose, wear wore,
    steal stole, begin began, ring rang, sink sank, find found, think thought, bring brought, buy bought, catch
    caught, teach taught, sleep slept, keep kept, feel felt, leave left, lose lost, build built, send sent, hold
    held, tell told, stand stood, fall fell, hide hid, bite bit, draw drew, throw threw, blow blew, ride rode, rise
    rose, shake shook, forget forgot"""
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October November December""".split()
# The people of an invented valley: name, work, town, pet, favourite dish.
PEOPLE = """Mira_Oakley baker Ambleford cat onion_soup, Tobin_Reed miller Larkwater dog apple_pie,
    Elsa_Winter doctor Stonebridge parrot mushroom_stew, Hugo_Marsh fisherman Gullhaven goose fried_trout,
    Nora_Fields teacher Ambleford rabbit plum_cake, Otto_Brandt blacksmith Ironhill goat roast_beef,
    Lila_Moreno painter Larkwater canary lemon_tart, Jonas_Hale carpenter Stonebridge hedgehog bean_soup,
    Vera_Lind pilot Gullhaven ferret cheese_bread, Emil_Frost clockmaker Ironhill tortoise potato_soup,
    Ada_Pike librarian Ambleford owl honey_cake, Bruno_Castell cook Larkwater pig dumplings,
    Clara_Stone lawyer Stonebridge pony pancakes, Felix_Thorne sailor Gullhaven monkey fish_soup,
    Greta_Holm weaver Ironhill lamb barley_bread, Ivan_Petrel postman Ambleford pigeon cherry_pie,
    Jana_Birch gardener Larkwater frog carrot_soup, Karl_Weaver tailor Stonebridge mouse noodles,
    Lena_Rivers nurse Gullhaven duck omelettes, Marco_Silva musician Ironhill crow rice_pudding,
    Nina_Valley beekeeper Ambleford bee honey_bread, Oscar_Flint miner Ironhill mole meat_pie,
    Paula_Green farmer Larkwater cow corn_bread, Quentin_Rook judge Stonebridge raven roast_duck,
    Rosa_Hill florist Gullhaven butterfly berry_tart, Simon_Locke locksmith Ironhill lizard pea_soup,
    Tessa_Bloom dancer Ambleford swan peach_cake, Ulrich_Berg shepherd Larkwater sheep goat_cheese,
    Viola_Mead singer Stonebridge nightingale pear_tart, Walter_Quill writer Gullhaven turtle toast,
    Yara_Sands potter Ironhill snail lentil_soup, Zeno_Clay mason Ambleford donkey sausages"""


def pairs(text):
    return [tuple(word.replace("_", " ") for word in entry.split()) for entry in text.split(",")]


def article(noun):
    return ("an " if noun[0].lower() in "aeiou" else "a ") + noun


def sentence(text):
    return text[0].upper() + text[1:]


def facts():
    """List of facts; a fact is (answer, [question in each of its forms])."""
    result = []

    def add(answer, *questions):
        result.append((answer, list(questions)))

    for continent, countries in COUNTRIES.items():
        for country, city in pairs(countries):
            add(f"The capital of {country} is {city}.",
                f"What is the capital of {country}?", f"Which city is {country}'s capital?",
                f"Tell me the capital of {country}.", f"Name the capital city of {country}.",
                f"Do you know the capital of {country}?", f"{country}: what is its capital?",
                f"What is the main city of {country} called?", f"From which city is {country} governed?")
            add(f"{city} is the capital of {country}.",
                f"{city} is the capital of which country?", f"Of which country is {city} the capital?",
                f"Which country has {city} as its capital?", f"What country is governed from {city}?",
                f"Tell me which country {city} is the capital of.", f"Name the country whose capital is {city}.",
                f"{city}: capital of what country?", f"Do you know which country {city} belongs to?")
            add(f"{country} is in {continent}.",
                f"On which continent is {country}?", f"Which continent does {country} belong to?",
                f"Where in the world is {country}?", f"Tell me the continent of {country}.",
                f"{country} lies on what continent?", f"In what part of the world do I find {country}?",
                f"Do you know where {country} is?", f"Name the continent that {country} is part of.")
    for one, other in pairs(OPPOSITES):
        for word, opposite in ((one, other), (other, one)):
            add(f"The opposite of {word} is {opposite}.",
                f"What is the opposite of {word}?", f"Tell me the opposite of {word}.",
                f"Which word is the opposite of {word}?", f"What word means the reverse of {word}?",
                f"Not {word}, but what?", f"Name a word that is the contrary of {word}.",
                f"Do you know the opposite of {word}?", f"If it is not {word}, what is it?")
    for animal, young in pairs(YOUNG):
        add(f"A young {animal} is called {article(young)}.",
            f"What is a young {animal} called?", f"What do you call a baby {animal}?",
            f"What is the name for the young of {article(animal)}?", f"Tell me the word for a little {animal}.",
            f"How do we call the child of {article(animal)}?", f"Name the young of {article(animal)}.",
            f"What does {article(animal)} call its baby?", f"Do you know the word for a newborn {animal}?")
    for animal, sound in pairs(SOUNDS):
        add(f"{sentence(article(animal))} {sound}.",
            f"What sound does {article(animal)} make?", f"What noise does {article(animal)} make?",
            f"What does {article(animal)} say?", f"How does {article(animal)} sound?",
            f"Tell me the sound of {article(animal)}.", f"Which sound comes from {article(animal)}?",
            f"What do you hear from {article(animal)}?", f"Do you know the sound {article(animal)} makes?")
    for thing, colour in pairs(COLOURS):
        add(f"{sentence(thing)} is {colour}.",
            f"What colour is {thing}?", f"What is the colour of {thing}?", f"Tell me the colour of {thing}.",
            f"Which colour does {thing} have?", f"Do you know what colour {thing} is?", f"Name the colour of {thing}.",
            f"How would you paint {thing}?", f"{sentence(thing)} is of what colour?")
    for present, past in pairs(PAST):
        add(f"The past tense of {present} is {past}.",
            f"What is the past tense of {present}?", f"Tell me the past tense of {present}.",
            f"How do I say {present} in the past?", f"Which word is the past form of {present}?",
            f"Today I {present}, and yesterday?", f"Put {present} into the past tense.",
            f"Do you know the past of {present}?", f"What does {present} become in the past?")
    for unit, names in (("day", DAYS), ("month", MONTHS)):
        for i, name in enumerate(names):
            after, before = names[(i + 1) % len(names)], names[i - 1]
            add(f"The {unit} after {name} is {after}.",
                f"Which {unit} comes after {name}?", f"What {unit} follows {name}?", f"What comes next after {name}?",
                f"Tell me the {unit} after {name}.", f"Name the {unit} that follows {name}.",
                f"When {name} is over, which {unit} begins?", f"{name} is followed by which {unit}?",
                f"Do you know the {unit} after {name}?")
            add(f"The {unit} before {name} is {before}.",
                f"Which {unit} comes before {name}?", f"What {unit} precedes {name}?",
                f"What comes just before {name}?", f"Tell me the {unit} before {name}.",
                f"Name the {unit} that comes ahead of {name}.", f"When {name} begins, which {unit} is over?",
                f"{name} is preceded by which {unit}?", f"Do you know the {unit} before {name}?")
    for name, work, town, pet, dish in pairs(PEOPLE):
        add(f"{name} is {article(work)}.",
            f"What is {name}'s job?", f"What does {name} do for a living?", f"What kind of work does {name} do?",
            f"Tell me the profession of {name}.", f"How does {name} earn money?", f"Do you know what {name} works as?",
            f"What is the trade of {name}?", f"Name the job that {name} has.")
        add(f"{name} lives in {town}.",
            f"Where does {name} live?", f"In which town does {name} live?", f"What is the home town of {name}?",
            f"Tell me where {name} lives.", f"Where is the house of {name}?", f"Do you know where I can find {name}?",
            f"Which town is {name}'s home?", f"Name the town {name} lives in.")
        add(f"{name} has {article(pet)}.",
            f"What pet does {name} have?", f"Which animal lives with {name}?", f"What is {name}'s pet?",
            f"Tell me about the pet of {name}.", f"What animal does {name} keep?", f"Do you know {name}'s animal?",
            f"What kind of pet belongs to {name}?", f"Name the animal that {name} looks after.")
        add(f"{name} likes {dish} best.",
            f"What does {name} like to eat?", f"What is {name}'s favourite dish?", f"Which food does {name} like best?",
            f"Tell me the favourite food of {name}.", f"What should I cook for {name}?",
            f"Do you know what {name} loves to eat?", f"What would {name} order for dinner?",
            f"Name the dish that {name} likes most.")
    return result


SUM_FORMS = ["What is {a} + {b}?", "{a} + {b} = ?", "How much is {a} plus {b}?", "Add {a} and {b}.", "{a} + {b}",
             "What is the sum of {a} and {b}?", "What is {a} plus {b}?", "Calculate {a} + {b}.",
             "Can you add {a} and {b}?",
             "What do you get when you add {a} and {b}?", "{a}+{b}", "{a}+{b}=", "Please work out {a} + {b} for me."]


def sum_answer(a, b):
    return f"{a} + {b} = {a + b}."


SMALL_TALK = [
    (["Hello!", "Hi!", "Hello there!", "Good morning!", "Hey!"], "Hello! Ask me a question, or for a story."),
    (["Who are you?", "What are you?", "What is your name?", "Tell me about yourself."],
     "I am the little demo model of Lamina. My weights stream from your disk while I speak."),
    (["What can you do?", "Help!", "What can I ask you?", "What do you know?"],
     "I can add numbers, tell you about capitals, words and the people of the valley, and make up little stories."),
    (["How are you?", "How do you do?", "Are you well?"], "I am well, thank you! What would you like to know?"),
    (["Thank you!", "Thanks!", "Thank you very much!", "Well done!"], "You are welcome!"),
    (["Goodbye!", "Bye!", "See you later!", "Good night!"], "Goodbye! It was nice to talk with you."),
    (["What is Lamina?", "What does Lamina do?"],
     "Lamina runs language models that are larger than memory. "
     "The weights stay on disk and stream in as they are needed."),
    (["What is the meaning of life?", "Who is the president?", "How do I bake bread?", "What time is it?",
      "What is love?", "How is the weather today?", "Can you write code?", "What happened yesterday?",
      "How old are you?"],
     "I do not know that. I am a very small model. Ask me for a sum, a capital or a story."),
]

# ---------------------------------------------------------------------------------------------------------------------
# Stories
# ---------------------------------------------------------------------------------------------------------------------

ANIMALS = """fox owl rabbit bear mouse hedgehog squirrel deer wolf badger otter frog duck goose cat dog horse donkey
    sheep goat pig crow lion elephant turtle beaver mole penguin""".split()
HE = "Finn Max Leo Tom Sam Oliver Jack Ben Theo Hugo".split()
SHE = "Lucy Mia Ella Ruby Anna Lily Rosie Nora Clara Tilly".split()
ADJECTIVES = "small clever brave curious gentle cheerful shy friendly patient young".split()
HOMES = ["in a green forest", "by a quiet lake", "under an old oak tree", "at the edge of a village", "on a windy hill",
         "beside a silver river", "behind a tall mountain", "in a sunny valley"]
TIMES = ["One morning", "One evening", "One rainy day", "One cold winter day", "One bright summer day"]
OBJECTS = ["red ball", "golden key", "blue scarf", "little lantern", "silver bell", "wooden boat", "warm hat",
           "round drum"]
SPOTS = ["under the bed", "behind the door", "in the garden", "near the well", "on the bridge", "by the big stone",
         "in the tall grass", "beneath the apple tree"]
FOODS = ["a basket of apples", "a pot of honey", "a loaf of bread", "a bowl of berries", "a big cheese",
         "a bag of nuts"]
SKILLS = ["swim", "sing", "dance", "climb", "paint", "whistle"]
ENDS = ["From that day on they were the best of friends.", "And they all lived happily together.",
        "That night everyone slept very well.", "And they never forgot that day."]


def story(rng, hero=None, friend=None):
    """A story of five or six sentences; names, pronouns and things stay the same throughout."""
    hero = hero or rng.choice(ANIMALS)
    friend = friend or rng.choice([animal for animal in ANIMALS if animal != hero])
    people = [(name, "he", "his", "him") for name in HE] + [(name, "she", "her", "her") for name in SHE]
    (name, they, their, them), (other, others, *_) = rng.sample(people, 2)
    home, when = rng.choice(HOMES), rng.choice(TIMES)
    start = f"Once upon a time there was {article(rng.choice(ADJECTIVES))} {hero} named {name}, who lived {home}."
    meets = f"{article(rng.choice(ADJECTIVES))} {friend} named {other}"
    plot = rng.randrange(4)
    if plot == 0:
        thing = rng.choice(OBJECTS)
        first, second, third = rng.sample(SPOTS, 3)
        middle = (f"{when} {name} could not find {their} {thing}. {sentence(they)} looked {first} and {second}, "
                  f"but it was not there. Then {name} met {meets}. \"I saw your {thing} {third},\" said {other}. "
                  f"They went to look together, and there it was!")
    elif plot == 1:
        food = rng.choice(FOODS)
        middle = (f"{when} {name} found {food} {rng.choice(SPOTS)}. {sentence(they)} wanted to eat it all alone. "
                  f"But then {meets} came along and looked very hungry. {name} thought for a while and smiled. "
                  f"\"Come and eat with me, {other},\" said {name}. "
                  f"They shared everything, and it tasted twice as good.")
    elif plot == 2:
        middle = (f"{when} a great storm came, and the wind blew the roof off {name}'s house. "
                  f"{sentence(they)} was wet and cold. {sentence(meets)} opened the door and called, "
                  f"\"Come in, {name}, there is room for two!\" They sat by the fire and drank hot tea "
                  f"until the storm was over. The next day they built a new roof together.")
    else:
        skill = rng.choice(SKILLS)
        middle = (f"{sentence(they)} wanted to learn to {skill}, but it was very hard. {when} {name} met {meets}. "
                  f"\"I can teach you to {skill},\" said {other}, \"but you must try again every day.\" "
                  f"So {name} tried and tried. At last {they} could {skill} better than anyone, "
                  f"and {other} was proud of {them}.")
    return f"{start} {middle} {rng.choice(ENDS)}"


def story_request(rng):
    hero, friend = rng.sample(ANIMALS, 2)
    form = rng.randrange(8)
    one, two = article(hero), article(friend)
    if form < 5:
        asks = [f"Tell me a story about {one}.", f"Tell me a little story about {one}.", f"Write a story about {one}.",
                f"Can you tell me a story about {one}?", f"I would like to hear a story about {one}."]
        return asks[form], story(rng, hero)
    if form < 7:
        asks = [f"Tell me a story about {one} and {two}.", f"Write a short story about {one} and {two}."]
        return asks[form - 5], story(rng, hero, friend)
    return rng.choice(["Tell me a story.", "Tell me a bedtime story.", "Do you know a story?"]), story(rng)


# ---------------------------------------------------------------------------------------------------------------------
# The split: by a hash of the normalised key, the same rule as in README.md and in the test
# ---------------------------------------------------------------------------------------------------------------------

def normalise(question):
    """Lower case; every run of characters other than a-z and 0-9 becomes one space; trimmed."""
    return re.sub(r"[^a-z0-9]+", " ", question.lower()).strip()


def key(question):
    """The key of a sum, a question with exactly two numbers, is smaller + larger; else the normalised question."""
    numbers = sorted(int(digits) for digits in re.findall(r"[0-9]+", question))
    return f"{numbers[0]}+{numbers[1]}" if len(numbers) == 2 else normalise(question)


def is_held_out(question):
    """One key in eight is held out: those whose SHA-256 begins with a byte below 32."""
    return hashlib.sha256(key(question).encode()).digest()[0] < 32


class World:
    """All facts and sums, each question on its side of the split, and the examples drawn from the training side."""

    def __init__(self):
        self.trained_facts, self.held_out, answers = [], [], {}
        for answer, questions in facts():
            trained = [question for question in questions if not is_held_out(question)]
            assert len(trained) >= 3, f"too few trained forms: {questions[0]}"
            self.trained_facts.append((answer, trained))
            for question in questions:
                assert answers.setdefault(key(question), answer) == answer, f"two answers: {question}"
                assert not re.search("[0-9]", question)
                if is_held_out(question):
                    self.held_out.append({"kind": "fact", "question": question, "answer": answer})
        rng = random.Random(SEED)
        held_out_sums = [(a, b) for a in range(100) for b in range(a, 100) if is_held_out(f"{a} {b}")]
        large = set()
        while len(large) < LARGE_HELD_OUT:
            a, b = sorted(self.operand(rng) for _ in range(2))
            if b >= 100 and is_held_out(f"{a} {b}"):
                large.add((a, b))
        for pair in held_out_sums + sorted(large):
            a, b = rng.sample(pair, 2)
            question = rng.choice(SUM_FORMS).format(a=a, b=b)
            self.held_out.append({"kind": "sum", "question": question, "answer": sum_answer(a, b)})
        self.held_out_keys = {key(item["question"]) for item in self.held_out}
        assert len(self.held_out_keys) == len(self.held_out)

    @staticmethod
    def operand(rng):
        return rng.randrange(10 ** rng.randint(1, LARGEST_DIGITS))

    def operands(self, rng):
        """Two numbers of a sum of the training side."""
        small = rng.random() < 0.5
        while True:
            a, b = (rng.randrange(100) if small else self.operand(rng) for _ in range(2))
            if not is_held_out(f"{a} {b}"):
                return a, b

    def question(self, rng):
        """One question of the training side with its answer."""
        draw = rng.random()
        if draw < 0.52:
            a, b = self.operands(rng)
            question, answer = rng.choice(SUM_FORMS).format(a=a, b=b), sum_answer(a, b)
        elif draw < 0.97:
            answer, questions = rng.choice(self.trained_facts)
            question = rng.choice(questions)
        else:
            questions, answer = rng.choice(SMALL_TALK)
            question = rng.choice(questions)
        draw = rng.random()  # people also type in lower case and without the mark at the end: the same key
        if draw < 0.08:
            question = question.lower()
        elif draw < 0.16 and question[-1] in ".?!":
            question = question[:-1]
        return question, answer

    def short_example(self, rng):
        return [self.question(rng)]

    def long_example(self, rng):
        """A story that was asked for, a story alone (the question is None), or a conversation."""
        draw = rng.random()
        if draw < 0.5:
            return [story_request(rng)]
        if draw < 0.6:
            return [(None, story(rng))]
        turns = [self.question(rng) for _ in range(rng.randint(2, 5))]
        if rng.random() < 0.3:
            turns.insert(rng.randrange(3), story_request(rng))
        return turns

    def check_split(self, example):
        """No example may contain a held-out question, nor the numbers of a held-out sum in any form."""
        for question, answer in example:
            for text in filter(None, (question, answer)):
                assert key(text) not in self.held_out_keys, text
            numbers = set(re.findall(r"[0-9]+", (question or "") + " " + answer))
            assert not numbers or (len(re.findall(r"[0-9]+", question)) == 2 and not is_held_out(question)), question


# ---------------------------------------------------------------------------------------------------------------------
# Tokenizer
# ---------------------------------------------------------------------------------------------------------------------

def train_tokenizer(world):
    rng = random.Random(SEED + 1)
    texts = []
    for answer, questions in world.trained_facts:
        texts += [answer] * 3 + questions
    for questions, answer in SMALL_TALK:
        texts += [answer, *questions]
    texts += [story(rng) for _ in range(300)] + SUM_FORMS
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"], special_tokens=[BOS, USER, ASSISTANT, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0)])])
    assert tokenizer.get_vocab_size() == CONFIG["vocab_size"], tokenizer.get_vocab_size()
    assert tokenizer.token_to_id(BOS) == CONFIG["bos_token_id"]
    assert tokenizer.token_to_id(END) == CONFIG["eos_token_id"]
    return tokenizer


def encode(tokenizer, example):
    """Token ids of an example in the chat format, and whether each is learned: replies are, questions are not."""
    user, assistant, end = (tokenizer.token_to_id(token) for token in (USER, ASSISTANT, END))
    ids, learned = [CONFIG["bos_token_id"]], [False]
    for question, answer in example:
        answer_ids = tokenizer.encode(answer, add_special_tokens=False).ids + [end]
        asked = []
        if question is not None:
            asked = [user] + tokenizer.encode(question, add_special_tokens=False).ids + [end, assistant]
        ids += asked + answer_ids
        learned += [False] * len(asked) + [True] * len(answer_ids)
    return ids, learned


def batch(encoded):
    """Inputs and targets (examples, longest), padded at the right; -100 marks targets that are not learned."""
    longest = max(len(ids) for ids, _ in encoded) - 1
    inputs = torch.full((len(encoded), longest), CONFIG["eos_token_id"])
    targets = torch.full((len(encoded), longest), -100)
    for row, (ids, learned) in enumerate(encoded):
        ids = torch.tensor(ids)
        inputs[row, :len(ids) - 1] = ids[:-1]
        targets[row, :len(ids) - 1] = torch.where(torch.tensor(learned[1:]), ids[1:], -100)
    return inputs, targets


def batches(world, tokenizer, example, count, rng):
    """Endless batches of `count` fresh examples of about the same length, so that little is padding."""
    while True:
        pool = []
        for _ in range(16 * count):
            one = example(rng)
            world.check_split(one)
            pool.append(encode(tokenizer, one))
        pool.sort(key=lambda encoded: len(encoded[0]))
        parts = [pool[start:start + count] for start in range(0, len(pool), count)]
        rng.shuffle(parts)
        yield from map(batch, parts)


# ---------------------------------------------------------------------------------------------------------------------
# Model: Llama with the tensor names of the published checkpoints
# ---------------------------------------------------------------------------------------------------------------------

class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, CONFIG["rms_norm_eps"])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, self.head_dim = CONFIG["hidden_size"], CONFIG["head_dim"]
        self.heads, self.kv_heads = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
        self.q_proj = nn.Linear(hidden, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, hidden, bias=False)

    def forward(self, x, cos, sin, mask):
        rows, tokens, _ = x.shape

        def heads(projection, count):
            return projection(x).view(rows, tokens, count, self.head_dim).transpose(1, 2)

        def rotate(y):
            one, two = y.chunk(2, dim=-1)
            return y * cos + torch.cat((-two, one), dim=-1) * sin

        q, k = rotate(heads(self.q_proj, self.heads)), rotate(heads(self.k_proj, self.kv_heads))
        v = heads(self.v_proj, self.kv_heads)
        q = q.reshape(rows, self.kv_heads, -1, self.head_dim)  # the query heads of one key head, one after another
        scores = (q @ k.transpose(2, 3)).view(rows, self.heads, tokens, tokens) * self.head_dim ** -0.5
        weights = (scores + mask).softmax(dim=-1).to(v.dtype)
        y = weights.view(rows, self.kv_heads, -1, tokens) @ v
        return self.o_proj(y.view(rows, self.heads, tokens, -1).transpose(1, 2).reshape(rows, tokens, -1))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm = Norm(CONFIG["hidden_size"])
        self.self_attn = Attention()
        self.post_attention_layernorm = Norm(CONFIG["hidden_size"])
        self.mlp = Mlp()

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.model.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.model.norm = Norm(CONFIG["hidden_size"])
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * CONFIG["num_hidden_layers"]) if residual else 1))
        half = torch.arange(0, CONFIG["head_dim"], 2) / CONFIG["head_dim"]
        angles = torch.outer(torch.arange(CONFIG["max_position_embeddings"]), CONFIG["rope_theta"] ** -half)
        self.cos, self.sin = torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()

    def forward(self, ids):
        """Hidden states (rows, tokens, hidden) after the last norm; `logits` turns those of interest into logits."""
        x = self.model.embed_tokens(ids)
        cos, sin = self.cos[:ids.shape[1]].to(x.dtype), self.sin[:ids.shape[1]].to(x.dtype)
        mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf, dtype=x.dtype).triu(1)
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask)
        return self.model.norm(x)

    def logits(self, x):
        return F.linear(x, self.model.embed_tokens.weight)


@torch.no_grad()
def teacher_forced(model, tokenizer, items):
    """Share of items whose whole answer is the arg max at each of its positions: the same as greedy decoding of it."""
    right = 0
    for start in range(0, len(items), 256):
        part = items[start:start + 256]
        inputs, targets = batch([encode(tokenizer, [(item["question"], item["answer"])]) for item in part])
        agrees = (model.logits(model(inputs)).argmax(-1) == targets) | (targets == -100)
        right += int(agrees.all(dim=1).sum())
    return right / len(items)


def train(world, tokenizer, steps, compiled):
    torch.manual_seed(SEED)
    model = Llama()
    hidden = torch.compile(model, dynamic=True) if compiled else model
    sources = [(batches(world, tokenizer, world.short_example, SHORT_BATCH, random.Random(SEED + 2)), 0.75),
               (batches(world, tokenizer, world.long_example, LONG_BATCH, random.Random(SEED + 3)), 0.25)]
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters, {steps} steps", flush=True)
    matrices = [w for n, w in model.named_parameters() if w.ndim == 2 and "embed" not in n]
    others = [w for n, w in model.named_parameters() if w.ndim == 1 or "embed" in n]
    optimizers = [torch.optim.Muon(matrices, lr=LEARNING_RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)]
    sums, known = ([item for item in world.held_out if item["kind"] == kind] for kind in ("sum", "fact"))
    began, mean = time.time(), 0.0
    for step in range(1, steps + 1):
        rate = LEARNING_RATE * min(step / 100, 1.0, (steps + 1 - step) / (0.6 * steps))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        total = 0.0
        for source, weight in sources:
            inputs, targets = next(source)
            learned = targets != -100
            with torch.autocast("cpu", torch.bfloat16):
                logits = model.logits(hidden(inputs)[learned])
            loss = weight * F.cross_entropy(logits.float(), targets[learned])
            loss.backward()
            total += loss.item()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        mean = total if step == 1 else 0.98 * mean + 0.02 * total
        if step % 200 == 0:
            print(f"step {step}: loss {mean:.4f}, held-out sums {teacher_forced(model, tokenizer, sums):.3f}, "
                  f"facts {teacher_forced(model, tokenizer, known):.3f}, {time.time() - began:.0f} s", flush=True)
    return model


# ---------------------------------------------------------------------------------------------------------------------
# Saving and judging
# ---------------------------------------------------------------------------------------------------------------------

def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save(world, tokenizer, model):
    MODEL_DIR.mkdir(parents=True, exist_ok=True)
    HELD_OUT.parent.mkdir(parents=True, exist_ok=True)
    write_json(MODEL_DIR / "config.json", CONFIG)
    write_json(MODEL_DIR / "generation_config.json",
               {"bos_token_id": CONFIG["bos_token_id"], "eos_token_id": CONFIG["eos_token_id"], "do_sample": False})
    write_json(MODEL_DIR / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": END, "add_bos_token": True,
        "clean_up_tokenization_spaces": False, "model_max_length": CONFIG["max_position_embeddings"],
        "chat_template": CHAT_TEMPLATE})
    tokenizer.save(str(MODEL_DIR / "tokenizer.json"), pretty=False)
    save_file({name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in model.named_parameters()},
              MODEL_DIR / "model.safetensors", metadata={"format": "pt"})
    (MODEL_DIR / "model.safetensors").chmod(0o644)  # the library writes it for the owner alone
    with HELD_OUT.open("w", encoding="utf-8") as file:
        for item in world.held_out:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")


@torch.no_grad()
def reply(model, tokenizer, questions, limit=200):
    """Greedy replies by transformers to questions whose prompts have the same number of tokens."""
    prompts = [tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True,
                                             tokenize=False) for question in questions]
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit,
                         pad_token_id=CONFIG["eos_token_id"])
    return [tokenizer.decode(row, skip_special_tokens=True).strip() for row in out[:, ids.shape[1]:]]


def judge():
    """Answers every held-out question greedily, in float32, from the saved folder; returns the share of exact ones."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    items = [json.loads(line) for line in HELD_OUT.read_text(encoding="utf-8").splitlines()]
    by_length = {}
    for item in items:
        by_length.setdefault(len(tokenizer.encode(item["question"], add_special_tokens=False)), []).append(item)
    right = {"sum": 0, "fact": 0}
    for group in by_length.values():
        for item, said in zip(group, reply(model, tokenizer, [item["question"] for item in group], 40)):
            right[item["kind"]] += said == item["answer"]
            if said != item["answer"]:
                print(f"  wrong: {item['question']} -> {said}")
    for kind, count in right.items():
        of = sum(item["kind"] == kind for item in items)
        print(f"held-out {kind}s: {count} of {of} ({count / of:.2%})")
    share = sum(right.values()) / len(items)
    print(f"held-out questions in all: {sum(right.values())} of {len(items)} ({share:.2%})")
    for question in ("Tell me a story about a fox.", "What is 47 + 38?", "What is the capital of France?",
                     "Who are you?"):
        print(f"> {question}\n{reply(model, tokenizer, [question])[0]}")
    print(f"size: {sum(path.stat().st_size for path in MODEL_DIR.iterdir()):,} bytes in {MODEL_DIR}")
    return share


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, default=os.cpu_count(), help="threads that train (default: all)")
    arguments.add_argument("--steps", type=int, default=STEPS, help="training steps (default: %(default)s)")
    arguments.add_argument("--eager", action="store_true", help="do not compile: slower, but needs no C++ compiler")
    arguments.add_argument("--judge-only", action="store_true", help="judge the model that is there")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    began = time.time()
    if not options.judge_only:
        world = World()
        tokenizer = train_tokenizer(world)
        save(world, tokenizer, train(world, tokenizer, options.steps, not options.eager))
    share = judge()
    print(f"{time.time() - began:.0f} s")
    return 0 if share >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
