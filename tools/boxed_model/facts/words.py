"""Common words in English, Korean and Japanese, opposites, and longer English words to spell."""

# english|korean|japanese
_WORDS = """
water|물|水
fire|불|火
tree|나무|木
flower|꽃|花
river|강|川
mountain|산|山
sea|바다|海
sky|하늘|空
sun|태양|太陽
moon|달|月
star|별|星
rain|비|雨
snow|눈|雪
wind|바람|風
cloud|구름|雲
stone|돌|石
sand|모래|砂
forest|숲|森
island|섬|島
lake|호수|湖
dog|개|犬
cat|고양이|猫
bird|새|鳥
fish|물고기|魚
horse|말|馬
cow|소|牛
pig|돼지|豚
sheep|양|羊
rabbit|토끼|うさぎ
tiger|호랑이|虎
lion|사자|ライオン
bear|곰|熊
monkey|원숭이|猿
elephant|코끼리|象
mouse|쥐|ねずみ
chicken|닭|鶏
duck|오리|あひる
snake|뱀|蛇
frog|개구리|かえる
fox|여우|狐
wolf|늑대|狼
bee|벌|蜂
butterfly|나비|蝶
spider|거미|蜘蛛
turtle|거북이|亀
whale|고래|鯨
apple|사과|りんご
pear|배|梨
grape|포도|ぶどう
strawberry|딸기|いちご
peach|복숭아|桃
orange|오렌지|オレンジ
banana|바나나|バナナ
watermelon|수박|すいか
lemon|레몬|レモン
tomato|토마토|トマト
potato|감자|じゃがいも
onion|양파|玉ねぎ
carrot|당근|にんじん
rice|쌀|米
bread|빵|パン
meat|고기|肉
egg|달걀|卵
milk|우유|牛乳
coffee|커피|コーヒー
tea|차|お茶
sugar|설탕|砂糖
salt|소금|塩
soup|수프|スープ
cheese|치즈|チーズ
butter|버터|バター
cake|케이크|ケーキ
chocolate|초콜릿|チョコレート
salad|샐러드|サラダ
juice|주스|ジュース
wine|와인|ワイン
house|집|家
door|문|ドア
window|창문|窓
room|방|部屋
kitchen|부엌|台所
table|탁자|テーブル
chair|의자|椅子
bed|침대|ベッド
lamp|램프|ランプ
mirror|거울|鏡
clock|시계|時計
key|열쇠|鍵
bag|가방|かばん
box|상자|箱
cup|컵|コップ
knife|칼|ナイフ
spoon|숟가락|スプーン
plate|접시|皿
bottle|병|瓶
umbrella|우산|傘
clothes|옷|服
shirt|셔츠|シャツ
shoes|신발|靴
hat|모자|帽子
glasses|안경|眼鏡
book|책|本
paper|종이|紙
pencil|연필|鉛筆
letter|편지|手紙
newspaper|신문|新聞
picture|그림|絵
photo|사진|写真
music|음악|音楽
song|노래|歌
movie|영화|映画
game|게임|ゲーム
story|이야기|物語
word|단어|単語
language|언어|言語
name|이름|名前
number|숫자|数字
question|질문|質問
answer|대답|答え
school|학교|学校
teacher|선생님|先生
student|학생|学生
friend|친구|友達
family|가족|家族
mother|어머니|母
father|아버지|父
sister|자매|姉妹
brother|형제|兄弟
child|아이|子供
baby|아기|赤ちゃん
man|남자|男
woman|여자|女
person|사람|人
king|왕|王
queen|여왕|女王
doctor|의사|医者
nurse|간호사|看護師
police|경찰|警察
cook|요리사|料理人
farmer|농부|農夫
singer|가수|歌手
hospital|병원|病院
library|도서관|図書館
bank|은행|銀行
hotel|호텔|ホテル
restaurant|식당|レストラン
market|시장|市場
park|공원|公園
station|역|駅
airport|공항|空港
city|도시|都市
village|마을|村
country|나라|国
world|세계|世界
road|길|道
bridge|다리|橋
car|자동차|車
bus|버스|バス
train|기차|電車
airplane|비행기|飛行機
ship|배|船
bicycle|자전거|自転車
computer|컴퓨터|コンピューター
telephone|전화|電話
television|텔레비전|テレビ
camera|카메라|カメラ
money|돈|お金
work|일|仕事
time|시간|時間
today|오늘|今日
tomorrow|내일|明日
yesterday|어제|昨日
morning|아침|朝
evening|저녁|夕方
night|밤|夜
day|날|日
week|주|週
month|달|月
year|년|年
spring|봄|春
summer|여름|夏
autumn|가을|秋
winter|겨울|冬
red|빨간색|赤
blue|파란색|青
yellow|노란색|黄色
green|초록색|緑
white|흰색|白
black|검은색|黒
pink|분홍색|ピンク
purple|보라색|紫
brown|갈색|茶色
gold|금|金
silver|은|銀
head|머리|頭
face|얼굴|顔
eye|눈|目
nose|코|鼻
mouth|입|口
ear|귀|耳
hand|손|手
foot|발|足
heart|심장|心臓
tooth|이|歯
hair|머리카락|髪
love|사랑|愛
peace|평화|平和
dream|꿈|夢
hope|희망|希望
happiness|행복|幸福
health|건강|健康
power|힘|力
life|생명|命
truth|진실|真実
freedom|자유|自由
big|큰|大きい
small|작은|小さい
new|새로운|新しい
old|오래된|古い
good|좋은|良い
bad|나쁜|悪い
hot|뜨거운|熱い
cold|차가운|冷たい
fast|빠른|速い
slow|느린|遅い
beautiful|아름다운|美しい
delicious|맛있는|美味しい
happy|행복한|幸せな
sad|슬픈|悲しい
eat|먹다|食べる
drink|마시다|飲む
go|가다|行く
come|오다|来る
see|보다|見る
hear|듣다|聞く
speak|말하다|話す
read|읽다|読む
write|쓰다|書く
sleep|자다|寝る
walk|걷다|歩く
run|달리다|走る
buy|사다|買う
learn|배우다|学ぶ
know|알다|知る
think|생각하다|考える
hello|안녕하세요|こんにちは
thank you|감사합니다|ありがとうございます
goodbye|안녕히 가세요|さようなら
sorry|미안합니다|ごめんなさい
yes|네|はい
no|아니요|いいえ
good morning|좋은 아침입니다|おはようございます
good night|안녕히 주무세요|おやすみなさい
I love you|사랑해요|愛しています
congratulations|축하합니다|おめでとうございます
one|하나|一
two|둘|二
three|셋|三
four|넷|四
five|다섯|五
six|여섯|六
seven|일곱|七
eight|여덟|八
nine|아홉|九
ten|열|十
"""

WORDS: tuple[tuple[str, str, str], ...] = tuple(
    (row[0], row[1], row[2]) for row in (line.split("|") for line in _WORDS.strip().splitlines())
)

# Both directions are asked, so each word appears in one pair only.
OPPOSITES: tuple[tuple[str, str], ...] = tuple(
    (pair.split("-")[0], pair.split("-")[1])
    for pair in """
hot-cold big-small fast-slow up-down left-right open-closed day-night black-white happy-sad
rich-poor strong-weak old-new high-low long-short hard-soft heavy-light wet-dry full-empty
early-late clean-dirty loud-quiet near-far thick-thin true-false win-lose begin-end push-pull
buy-sell love-hate inside-outside top-bottom front-back first-last easy-difficult wide-narrow
sweet-sour smooth-rough deep-shallow bright-dark alive-dead awake-asleep safe-dangerous
always-never more-less good-bad yes-no before-after above-below north-south east-west
summer-winter man-woman boy-girl king-queen give-take come-go laugh-cry remember-forget
arrive-leave ask-answer brave-cowardly cheap-expensive friend-enemy tall-tiny young-elderly
""".split()
)

# thing, colour
COLOURS: tuple[tuple[str, str], ...] = (
    ("the sky", "blue"),
    ("grass", "green"),
    ("snow", "white"),
    ("a banana", "yellow"),
    ("blood", "red"),
    ("coal", "black"),
    ("a carrot", "orange"),
    ("a lemon", "yellow"),
    ("milk", "white"),
    ("chocolate", "brown"),
    ("a tomato", "red"),
    ("an eggplant", "purple"),
    ("a leaf", "green"),
    ("the sea", "blue"),
    ("a strawberry", "red"),
    ("a pumpkin", "orange"),
    ("a flamingo", "pink"),
    ("an elephant", "gray"),
    ("a frog", "green"),
    ("salt", "white"),
    ("coffee", "brown"),
    ("a crow", "black"),
    ("a polar bear", "white"),
    ("the sun", "yellow"),
)

# animal, what it says
SOUNDS: tuple[tuple[str, str], ...] = (
    ("dog", "Woof"),
    ("cat", "Meow"),
    ("cow", "Moo"),
    ("sheep", "Baa"),
    ("duck", "Quack"),
    ("pig", "Oink"),
    ("horse", "Neigh"),
    ("frog", "Ribbit"),
    ("lion", "Roar"),
    ("bee", "Buzz"),
    ("snake", "Hiss"),
    ("owl", "Hoot"),
    ("rooster", "Cock-a-doodle-doo"),
    ("mouse", "Squeak"),
    ("wolf", "Howl"),
    ("bird", "Tweet"),
    ("donkey", "Hee-haw"),
    ("crow", "Caw"),
)

LONGER_WORDS: tuple[str, ...] = tuple(
    """
keyboard garden pocket winter yellow planet rocket candle button carpet guitar violin piano
trumpet dragon castle wizard knight pirate treasure diamond engine server token cache prompt
model python memory kernel matrix vector tensor page queue schedule batch stream socket packet
network router signal filter buffer thread process program science history biology physics
chemistry geography mathematics alphabet sentence grammar vowel banana pineapple blueberry
raspberry mango coconut almond peanut walnut pepper garlic ginger cinnamon vanilla honey jelly
biscuit pancake sandwich noodle pasta pizza burger lobster shrimp salmon tuna dolphin shark
octopus penguin giraffe zebra kangaroo panda leopard camel eagle parrot swan pigeon sparrow
beetle ant dragonfly mosquito cactus bamboo maple willow daisy tulip rose orchid sunflower
mushroom volcano desert canyon valley waterfall glacier ocean beach harbor lighthouse tunnel
tower palace temple museum theater stadium factory office garage basement attic balcony stairs
ladder hammer screwdriver needle thread scissors blanket pillow curtain towel soap brush basket
bucket shovel rake fence gate mailbox envelope stamp postcard calendar notebook eraser crayon
marker ruler compass globe map backpack wallet jacket sweater scarf glove boot sandal belt
ribbon necklace bracelet crown mask costume circus parade festival holiday birthday present
balloon firework candle puzzle riddle marble kite puppet robot rocket satellite comet galaxy
universe gravity energy oxygen hydrogen carbon nitrogen iron copper magnet battery electric
strawberry mississippi committee letter bookkeeper balloon success address happiness
quire queue quiet quick question quarter
""".split()
)

SPELL_WORDS: tuple[str, ...] = tuple(
    sorted({w for w, _, _ in WORDS if " " not in w} | set(LONGER_WORDS))
)

PLAIN_COLOURS: tuple[str, ...] = (
    "red",
    "blue",
    "green",
    "yellow",
    "white",
    "black",
    "pink",
    "purple",
    "brown",
    "orange",
    "gray",
)
