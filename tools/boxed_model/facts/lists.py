"""Names, calendars, units and jokes."""

NAMES: tuple[str, ...] = tuple(
    """
Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Maria Noah Olivia Paul Quinn Rosa
Sam Tina Uma Victor Wendy Xavier Yuki Zoe Alice Bob Carol Daniel Ella Frank Gina Hugo Iris Jonas
Karen Liam Mina Nina Oscar Petra Ravi Sofia Thomas Ursula Vera Walter Yara Zack Minji Jiho Seoyeon
Haruto Sakura Kenji Aiko Omar Fatima Chen Wei Ling Arjun Priya Diego Lucia Mateo Ines Pierre Marie
Hans Greta Ivan Olga Sven Astrid Kofi Amara Ahmed Layla Tom Lucy Max Julia Peter Sarah John Jane
Mike Laura Steve Rachel Kevin Emily George Helen Martin Eva Simon Alex Robin Jamie Taylor
""".split()
)
NAMES_KO: tuple[str, ...] = (
    "민지",
    "지호",
    "서연",
    "민수",
    "영희",
    "철수",
    "지우",
    "하늘",
    "수진",
    "도윤",
    "은지",
    "현우",
)
NAMES_JA: tuple[str, ...] = (
    "太郎",
    "花子",
    "さくら",
    "健二",
    "愛子",
    "陽斗",
    "結衣",
    "大輔",
    "美咲",
    "直樹",
    "由美",
    "翔",
)

DAYS_EN = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS_KO = ("월요일", "화요일", "수요일", "목요일", "금요일", "토요일", "일요일")
DAYS_JA = ("月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日")
MONTHS_EN = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
SEASONS_EN = ("spring", "summer", "autumn", "winter")
PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
)
ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
)

# big unit (plural, singular), small unit (plural), factor
UNITS: tuple[tuple[str, str, str, int], ...] = (
    ("minutes", "minute", "seconds", 60),
    ("hours", "hour", "minutes", 60),
    ("days", "day", "hours", 24),
    ("weeks", "week", "days", 7),
    ("years", "year", "months", 12),
    ("meters", "meter", "centimeters", 100),
    ("kilometers", "kilometer", "meters", 1000),
    ("centimeters", "centimeter", "millimeters", 10),
    ("kilograms", "kilogram", "grams", 1000),
    ("tons", "ton", "kilograms", 1000),
    ("liters", "liter", "milliliters", 1000),
    ("feet", "foot", "inches", 12),
    ("yards", "yard", "feet", 3),
    ("dozens", "dozen", "pieces", 12),
    ("centuries", "century", "years", 100),
    ("decades", "decade", "years", 10),
    ("kilobytes", "kilobyte", "bytes", 1000),
    ("bytes", "byte", "bits", 8),
    ("dollars", "dollar", "cents", 100),
)
UNITS_KO: tuple[tuple[str, str, int], ...] = (
    ("분", "초", 60),
    ("시간", "분", 60),
    ("일", "시간", 24),
    ("주", "일", 7),
    ("년", "개월", 12),
    ("미터", "센티미터", 100),
    ("킬로미터", "미터", 1000),
    ("킬로그램", "그램", 1000),
    ("리터", "밀리리터", 1000),
)
UNITS_JA: tuple[tuple[str, str, int], ...] = (
    ("分", "秒", 60),
    ("時間", "分", 60),
    ("日", "時間", 24),
    ("週間", "日", 7),
    ("年", "か月", 12),
    ("メートル", "センチメートル", 100),
    ("キロメートル", "メートル", 1000),
    ("キログラム", "グラム", 1000),
    ("リットル", "ミリリットル", 1000),
)

# topic, joke
JOKES: tuple[tuple[str, str], ...] = (
    ("cats", "What is a cat's favorite color? Purr-ple."),
    ("dogs", "What do you call a dog that does magic? A labracadabrador."),
    ("cows", "Where do cows go on Friday night? To the moo-vies."),
    ("fish", "What do you call a fish with no eyes? A fsh."),
    ("bears", "What do you call a bear with no teeth? A gummy bear."),
    ("birds", "Why do birds fly south? It is too far to walk."),
    ("bees", "What did the bee say to the flower? Hello, honey."),
    ("numbers", "Why was six afraid of seven? Because seven ate nine."),
    ("math", "Why was the math book sad? It had too many problems."),
    ("computers", "Why was the computer cold? It left its Windows open."),
    ("programmers", "Why do programmers mix up Halloween and Christmas? Oct 31 equals Dec 25."),
    ("bananas", "Why did the banana see a doctor? It was not peeling well."),
    ("tomatoes", "Why did the tomato turn red? It saw the salad dressing."),
    ("coffee", "What does a sad cup of coffee say? I have been mugged."),
    ("bread", "Why did the baker stop? She could not make enough dough."),
    ("books", "Why are books so warm? They wear jackets."),
    ("pencils", "I had a joke about a broken pencil, but it was pointless."),
    ("clocks", "Why did the clock go to school late? It was ticking all night."),
    ("the moon", "How does the moon cut its hair? Eclipse it."),
    ("ghosts", "What room does a ghost avoid? The living room."),
    ("snow", "What do snowmen eat for breakfast? Frosted flakes."),
    ("music", "Why did the piano stay outside? It lost its keys."),
    ("models", "I am a tiny language model. My whole life is one small parameter after another."),
    ("elevators", "An elevator joke works on many levels."),
)
JOKES_KO: tuple[str, ...] = (
    "왕이 넘어지면? 킹콩!",
    "세상에서 가장 뜨거운 과일은? 천도복숭아!",
    "소가 계단을 오르면? 소오름!",
    "딸기가 직장을 잃으면? 딸기시럽!",
)
JOKES_JA: tuple[str, ...] = (
    "布団が吹っ飛んだ!",
    "アルミ缶の上にあるみかん。",
    "猫が寝込んだ。",
    "イルカはいるか?",
)
